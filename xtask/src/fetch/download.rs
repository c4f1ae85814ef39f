//! One file over HTTP, which goes on where it stopped.
//!
//! ```text
//! loop:
//!     ask for bytes from the length of FILE.part on
//!     206: append; 200: begin anew; 416: there are no more
//!     until FILE.part has as many bytes as it should have, as long as each request brings some
//! digest right: FILE.part becomes FILE; wrong: it is removed
//! ```

use super::digest;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;

/// What is to be downloaded.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The address.
    pub url: &'a str,
    /// In hexadecimal.
    pub sha256: &'a str,
    /// Its length.
    pub bytes: u64,
}

/// A server that says nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests in a row that may bring nothing.
const FRUITLESS: u32 = 2;

/// Writes `wanted` to `path`, by way of `path` with `.part` behind its name, which stays where it cannot be completed.
///
/// # Errors
/// A server that cannot be reached, refuses, or has something else; a folder that cannot be written.
pub fn download(wanted: &Wanted<'_>, path: &Path) -> Result<()> {
    let part = part(path);
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .build()
        .new_agent();
    let mut fruitless = 0;
    let mut complaint = None;
    loop {
        let before = length(&part)?;
        if before >= wanted.bytes {
            break;
        }
        if fruitless == FRUITLESS {
            let kept = format!("{before} of {} bytes are kept, the same command goes on from there", wanted.bytes);
            return Err(complaint.unwrap_or_else(|| anyhow::anyhow!("{}: no bytes came", wanted.url)).context(kept));
        }
        complaint = request(&agent, wanted, &part, before).err();
        fruitless = if length(&part)? > before { 0 } else { fruitless + 1 };
    }
    let checked = check(wanted, &part);
    if checked.is_err() {
        // To go on from wrong bytes is of no use.
        fs::remove_file(&part)?;
    }
    checked.with_context(|| wanted.url.to_owned())?;
    Ok(fs::rename(&part, path)?)
}

fn check(wanted: &Wanted<'_>, part: &Path) -> Result<()> {
    let length = length(part)?;
    ensure!(length == wanted.bytes, "expected {} bytes, got more", wanted.bytes);
    digest::check(part, wanted.sha256)
}

/// One request for the bytes from `from` on; those that come are in `part`, also after an error.
fn request(agent: &Agent, wanted: &Wanted<'_>, part: &Path, from: u64) -> Result<()> {
    let mut ask = agent.get(wanted.url);
    if from > 0 {
        ask = ask.header("Range", format!("bytes={from}-"));
    }
    let response = ask.call().with_context(|| wanted.url.to_owned())?;
    let status = response.status().as_u16();
    let mut file = match status {
        200 => File::create(part)?,
        206 if starts_at(&response, from) => OpenOptions::new().append(true).open(part)?,
        _ => bail!("{}: the server answered {status}", wanted.url),
    };
    // One byte more than wanted says that there are too many.
    let left = wanted.bytes + 1 - length(part)?;
    let mut body = response.into_body().into_reader().take(left);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer).with_context(|| wanted.url.to_owned())? {
            0 => return Ok(file.flush()?),
            read => file.write_all(&buffer[..read])?,
        }
    }
}

/// Whether a partial answer begins where it was asked to.
fn starts_at<T>(response: &ureq::http::Response<T>, from: u64) -> bool {
    let range = response.headers().get("Content-Range").and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(from)
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn length(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
