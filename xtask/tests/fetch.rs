//! Downloads from a server in this process, copies, archives: nothing here leaves the machine.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use xtask::fetch::download::{Wanted, download};
use xtask::fetch::fetch;
use xtask::fetch::sources::{DataSet, From, Item, Member, Unpack};

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// The bytes asked for.
    Ranges,
    /// The bytes asked for, but the connection ends after some of them.
    Cut(usize),
    /// All bytes, whatever is asked for.
    All,
    /// As many other bytes.
    Wrong,
    /// A few bytes more than there are.
    More,
    /// This status and no bytes.
    Status(u16),
}

/// A server that gives one answer a request and keeps where each began.
struct Server {
    url: String,
    starts: Arc<Mutex<Vec<Option<usize>>>>,
    thread: JoinHandle<()>,
}

impl Server {
    fn new(bytes: Vec<u8>, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let starts = Arc::new(Mutex::new(Vec::new()));
        let kept = starts.clone();
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let start = requested(&stream);
                kept.lock().unwrap().push(start);
                reply(stream, &bytes, start, answer);
            }
        });
        Self { url, starts, thread }
    }

    /// Where each request began, once all answers were given.
    fn starts(self) -> Vec<Option<usize>> {
        self.thread.join().unwrap();
        self.starts.lock().unwrap().clone()
    }
}

/// The first byte that the header `Range` asks for.
fn requested(stream: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
    let ranges = lines.filter_map(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok()
    });
    ranges.last()
}

fn reply(mut stream: TcpStream, bytes: &[u8], start: Option<usize>, answer: Answer) {
    let other = bytes.iter().map(|byte| !byte).collect::<Vec<u8>>();
    let longer = [bytes, b"more"].concat();
    let (from, body, sent) = match answer {
        Answer::Ranges => (start, &bytes[start.unwrap_or(0)..], usize::MAX),
        Answer::Cut(sent) => (start, &bytes[start.unwrap_or(0)..], sent),
        Answer::All => (None, bytes, usize::MAX),
        Answer::Wrong => (None, &other[..], usize::MAX),
        Answer::More => (None, &longer[..], usize::MAX),
        Answer::Status(status) => {
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            return;
        }
    };
    match from {
        Some(from) => {
            let range = format!("{from}-{}/{}", bytes.len() - 1, bytes.len());
            write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {range}\r\n").unwrap();
        }
        None => write!(stream, "HTTP/1.1 200 OK\r\n").unwrap(),
    }
    write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
    // The client may have left.
    let _ = stream.write_all(&body[..sent.min(body.len())]);
}

fn payload() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Downloads [`payload`] from a server with these answers; the result, where requests began, and the folder.
fn run(answers: Vec<Answer>, part: &[u8]) -> (anyhow::Result<()>, Vec<Option<usize>>, tempfile::TempDir) {
    let bytes = payload();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    if !part.is_empty() {
        fs::write(folder.path().join("file.part"), part).unwrap();
    }
    let server = Server::new(bytes.clone(), answers);
    let digest = sha256(&bytes);
    let wanted = Wanted { url: &server.url, sha256: &digest, bytes: bytes.len() as u64 };
    let result = download(&wanted, &path);
    let starts = server.starts();
    if result.is_ok() {
        assert!(fs::read(&path).unwrap() == bytes);
        assert!(!folder.path().join("file.part").exists());
    } else {
        assert!(!path.exists(), "a file that was not completed");
    }
    (result, starts, folder)
}

#[test]
fn a_whole_file_in_one_request() {
    let (result, starts, _) = run(vec![Answer::Ranges], &[]);
    result.unwrap();
    assert_eq!(starts, [None]);
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let (result, starts, _) = run(vec![Answer::Cut(70_000), Answer::Cut(50_000), Answer::Ranges], &[]);
    result.unwrap();
    assert_eq!(starts, [None, Some(70_000), Some(120_000)]);
}

#[test]
fn an_earlier_part_is_kept() {
    let (result, starts, _) = run(vec![Answer::Ranges], &payload()[..99_999]);
    result.unwrap();
    assert_eq!(starts, [Some(99_999)]);
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let (result, starts, _) = run(vec![Answer::All], &payload()[..99_999]);
    result.unwrap();
    assert_eq!(starts, [Some(99_999)]);
}

#[test]
fn what_came_before_the_server_failed_is_kept() {
    let answers = vec![Answer::Cut(70_000), Answer::Status(503), Answer::Status(503)];
    let (result, starts, folder) = run(answers, &[]);
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("70000 of 200000 bytes are kept") && error.contains("503"), "{error}");
    assert_eq!(starts, [None, Some(70_000), Some(70_000)]);
    assert_eq!(fs::metadata(folder.path().join("file.part")).unwrap().len(), 70_000);
}

#[test]
fn wrong_bytes_are_refused_and_not_gone_on_with() {
    for answer in [Answer::Wrong, Answer::More] {
        let (result, _, folder) = run(vec![answer], &[]);
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("expected"), "{error}");
        assert!(!folder.path().join("file.part").exists());
    }
    // A part of another file, completed rightly.
    let (result, _, folder) = run(vec![Answer::Ranges], &[1; 1000]);
    assert!(format!("{:#}", result.unwrap_err()).contains(&sha256(&payload())));
    assert!(!folder.path().join("file.part").exists());
}

#[test]
fn nobody_answers() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{port}/file");
    let wanted = Wanted { url: &url, sha256: "", bytes: 1 };
    let error = format!("{:#}", download(&wanted, &folder.path().join("file")).unwrap_err());
    assert!(error.contains(&url), "{error}");
}

/// A data set of two recipes: a copied file, or a zip archive that nothing has.
fn set(sha256: String) -> DataSet {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let copied: &'static [Item] = Box::leak(Box::new([Item {
        file: "text.txt",
        sha256: leak(sha256),
        bytes: 5,
        from: From::Copies,
        unpack: Unpack::Keep,
    }]));
    let members: &'static [Member] = Box::leak(Box::new([Member { prefix: "inside/", into: "", only: &[] }]));
    let archived: &'static [Item] = Box::leak(Box::new([Item {
        file: "set.zip",
        sha256: leak(self::sha256(&archive())),
        bytes: 1,
        from: From::Https(&[]),
        unpack: Unpack::Zip(members),
    }]));
    DataSet { name: "set", what: "a test", licence: "none", recipes: Box::leak(Box::new([copied, archived])) }
}

/// `inside/text.txt` with the same text, `inside/more.txt` packed once more, and a file beside.
fn archive() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in [("inside/text.txt", &b"hello"[..]), ("beside.txt", b"no")] {
        writer.start_file(name, options).unwrap();
        writer.write_all(text).unwrap();
    }
    writer.start_file("inside/more.txt.gz", options).unwrap();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"more").unwrap();
    writer.write_all(&packer.finish().unwrap()).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn copies_come_first_and_only_what_is_right_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, copies) = (folder.path().join("cache"), folder.path().join("copies"));
    fs::create_dir(&copies).unwrap();
    let set = set(sha256(b"hello"));
    let get = |copies: &Path| fetch(&set, &cache, &[folder.path().join("no such folder"), copies.to_path_buf()]);

    let error = format!("{:#}", get(&copies).unwrap_err());
    assert!(error.contains("put text.txt, or set.zip into a folder and name it by --from"), "{error}");
    assert!(error.contains("SCATTERBRAIN_CACHE"), "{error}");

    fs::write(copies.join("text.txt"), "HELLO").unwrap();
    assert!(get(&copies).is_err());
    fs::write(copies.join("set.zip"), archive()).unwrap();
    let there = get(&copies).unwrap();
    assert_eq!(there, cache.join("set"));
    let read = |name: &str| fs::read_to_string(there.join(name)).unwrap();
    assert_eq!((read("text.txt"), read("more.txt")), ("hello".into(), "more".into()));
    assert!(!there.join("beside.txt").exists());
    // The copies are still there, and a complete set is not looked for again.
    assert!(copies.join("set.zip").exists());
    assert_eq!(get(Path::new("nowhere")).unwrap(), there);
}

#[test]
fn an_interrupted_unpacking_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, copies) = (folder.path().join("cache"), folder.path().join("copies"));
    for half in ["set", "set.unpacking"] {
        fs::create_dir_all(cache.join(half)).unwrap();
        fs::write(cache.join(half).join("half"), "").unwrap();
    }
    fs::create_dir(&copies).unwrap();
    fs::write(copies.join("text.txt"), "hello").unwrap();
    let there = fetch(&set(sha256(b"hello")), &cache, &[copies]).unwrap();
    assert!(there.join("text.txt").exists() && !there.join("half").exists());
    assert!(!cache.join("set.unpacking").exists());
}
