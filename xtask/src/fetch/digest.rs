//! SHA-256 of files.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The digest of a file, in hexadecimal.
pub(super) fn of(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Refuses a file of another digest.
pub(super) fn check(path: &Path, expected: &str) -> Result<()> {
    let got = of(path)?;
    ensure!(got == expected, "{}: expected SHA-256 {expected}, got {got}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-4, example of SHA-256.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&path).unwrap(), known);
        assert!(check(&path, known).is_ok());
        let error = check(&path, &known.replace("ba", "ab")).unwrap_err().to_string();
        assert!(error.contains(known) && error.contains("abc"), "{error}");
    }
}
