//! Stub.
/// Stub.
pub fn run() -> anyhow::Result<()> {
    Ok(())
}
