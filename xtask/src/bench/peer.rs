//! PyTorch in a process of its own, asked one thing at a time.

use super::cores::OPENMP;
use super::input::Input;
use super::venv::Peers;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = include_str!("peer.py");
/// Variables that change how PyTorch's threads wait and how many they are, and what instructions it picks.
const OTHERS: [&str; 13] = [
    "OMP_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
];

/// What holds PyTorch's own kernels, MKL's and oneDNN's to AVX2.
const AVX2: [(&str, &str); 3] =
    [("ATEN_CPU_CAPABILITY", "avx2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")];

/// A running peer. It computes only while a request is open.
pub(crate) struct Peer {
    child: Child,
    /// Absent once closed.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    exchange: TempDir,
    torch: String,
}

impl Peer {
    pub(super) fn start(peers: &Peers, avx2: bool) -> Result<Self> {
        let mut command = Command::new(&peers.python);
        command.args(["-u", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        for name in OTHERS {
            command.env_remove(name);
        }
        command.envs(OPENMP);
        if avx2 {
            command.envs(AVX2);
        }
        let mut child = command.spawn().context("cannot start the peer's Python")?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the peer has no output")?);
        let exchange = tempfile::tempdir_in(&peers.folder)?;
        let mut peer = Self { child, requests, answers, exchange, torch: String::new() };
        let facts = peer.ask(&json!({"do": "facts"}))?;
        let capability = text(&facts, "capability")?;
        ensure!(!avx2 || capability == "AVX2", "PyTorch was held to AVX2 and says that it is at {capability}");
        let held = if avx2 { "held to" } else { "at" };
        peer.torch = format!("{} {held} {capability}", text(&facts, "torch")?);
        Ok(peer)
    }

    /// Its version, and the instruction set that it has picked.
    pub(super) fn torch(&self) -> &str {
        &self.torch
    }

    /// Gives it the tensors of the next calls.
    pub(super) fn load(&mut self, input: &Input) -> Result<()> {
        let path = self.exchange.path().join("input.safetensors");
        input.write(&path)?;
        self.ask(&json!({"do": "load", "path": path})).map(drop)
    }

    /// Seconds of `calls` calls one after the other, with the threads kept busy for some time before.
    pub(super) fn time(&mut self, threads: usize, causal: bool, calls: usize, busy: Duration) -> Result<f64> {
        let busy = busy.as_secs_f64();
        let request = json!({"do": "time", "threads": threads, "causal": causal, "calls": calls, "busy": busy});
        let answer = self.ask(&request)?;
        answer["seconds"].as_f64().context("the peer measured nothing")
    }

    /// The output of one call.
    pub(super) fn output(&mut self, threads: usize, causal: bool) -> Result<Vec<f32>> {
        let path = self.exchange.path().join("output.safetensors");
        self.ask(&json!({"do": "output", "threads": threads, "causal": causal, "path": path}))?;
        let bytes = std::fs::read(path)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensor = file.tensor("output")?;
        ensure!(tensor.dtype() == Dtype::F32, "the peer answers in {:?}", tensor.dtype());
        let (words, _) = tensor.data().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        let requests = self.requests.as_mut().context("the peer is closed")?;
        writeln!(requests, "{request}").context("the peer has gone")?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the peer has gone");
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("the peer says {line:?}"))?;
        if let Some(error) = answer.get("error") {
            bail!("the peer failed: {error}");
        }
        Ok(answer)
    }
}

impl Drop for Peer {
    /// It ends when its input does.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn text(answer: &Value, name: &str) -> Result<String> {
    Ok(answer[name].as_str().with_context(|| format!("the peer has no {name}"))?.to_owned())
}
