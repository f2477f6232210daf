//! A web server of a few lines that misbehaves on request, and shorthands for stores and pulls.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bantam_hub::{Digest, Event, HubError, ModelRef, Progress, PullOptions, SourceFailure, Store};
use sha2::Digest as _;

pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Start of `Range: bytes=N-`.
    pub(crate) fn range_start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Closes the connection after this many bytes of the body.
    pub(crate) cut_at: Option<usize>,
    /// Waits this long after the head, and after every eighth of the body.
    pub(crate) pause: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The file or the rest of it, as a server that takes ranges sends it.
    pub(crate) fn file(request: &Request, bytes: &[u8]) -> Self {
        match request.range_start() {
            Some(start) if start >= bytes.len() => {
                Reply::new(416).with("Content-Range", format!("bytes */{}", bytes.len()))
            }
            Some(start) => Reply { body: bytes[start..].to_vec(), ..Reply::new(206) }
                .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
            None => Reply { body: bytes.to_vec(), ..Reply::new(200) },
        }
    }

    /// The answer of a hub: where the file is, and what it is.
    pub(crate) fn hub(location: &str, bytes: &[u8]) -> Self {
        Reply::new(302)
            .with("Location", location)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(bytes)))
            .with("X-Linked-Size", bytes.len())
            .with("X-Repo-Commit", "0123abc")
    }
}

/// Runs until the test program ends.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `handler` gets each request with its number, from 0.
    pub(crate) fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (log, handler) = (Arc::clone(&requests), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(request) = read_request(&mut stream) else { return };
                    let number = log.lock().unwrap().len();
                    let reply = handler(&request, number);
                    log.lock().unwrap().push(request);
                    // The client may hang up at any point; that is its right.
                    let _ = write_reply(&mut stream, &reply);
                });
            }
        });
        Server { url, requests }
    }

    pub(crate) fn n_requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn request<T>(&self, i: usize, read: impl FnOnce(&Request) -> T) -> T {
        read(&self.requests.lock().unwrap()[i])
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { path, headers })
}

fn write_reply(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let end = reply.cut_at.unwrap_or(reply.body.len()).min(reply.body.len());
    for chunk in reply.body[..end].chunks((reply.body.len() / 8).max(1)) {
        thread::sleep(reply.pause);
        stream.write_all(chunk)?;
    }
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Reading to the end keeps the system from cutting the answer off with a reset.
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let _ = stream.read(&mut [0; 64]);
    Ok(())
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    format!("{:x}", HexDigest(sha2::Sha256::digest(bytes).into())).parse().unwrap()
}

struct HexDigest([u8; 32]);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes that differ from place to place.
pub(crate) fn model_bytes(n: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Events in short, for comparing.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<String>>);

impl Recorder {
    pub(crate) fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.starts_with(what)).count()
    }
}

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Waiting { name } => format!("waiting {name}"),
            Event::Trying { source } => format!("trying {source}"),
            Event::Bytes { done, total, .. } => format!("bytes {done} {total:?}"),
            Event::Retrying { error, .. } => format!("retrying {error}"),
            Event::Failed { source, error } => format!("failed {source}: {error}"),
            Event::Checking => "checking".to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

/// A store in a folder that goes when this does.
pub(crate) struct TestStore {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with_catalogue("")
    }

    /// With a catalogue of its own beside the embedded one.
    pub(crate) fn with_catalogue(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if !text.is_empty() {
            std::fs::write(dir.path().join("catalogue.toml"), text).unwrap();
        }
        let store = Store::open(Some(dir.path())).unwrap();
        TestStore { dir, store }
    }

    pub(crate) fn files_in(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join(folder)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Impatient, and with nothing from the environment.
pub(crate) fn options(server: &Server) -> PullOptions {
    PullOptions {
        hf_endpoint: server.url.clone(),
        retry_wait: Duration::from_millis(1),
        read_timeout: Duration::from_secs(20),
        ..PullOptions::default()
    }
}

pub(crate) fn parse(text: &str) -> ModelRef {
    ModelRef::parse(text).unwrap()
}

pub(crate) const HF: &str = "hf:org/repo/m.gguf";

/// A catalogue with one model `toy` of these bytes.
pub(crate) fn toy_catalogue(bytes: &[u8], sources: &str) -> String {
    format!(
        r#"[[model]]
name = "toy"
family = "Toy"
architecture = "llama"
parameters = 1000
licence = {{ name = "Own", url = "https://example.org", commercial_use = "Allowed." }}
context = 128
quantisation = "F32"
size = {}
sha256 = "{}"
sources = [{sources}]
"#,
        bytes.len(),
        sha256(bytes)
    )
}

/// A wheel with these members.
pub(crate) fn wheel(dir: &Path, file: &str, members: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join(file);
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (member, bytes) in members {
        zip.start_file(*member, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

/// A package client of a few lines: `script` runs with `$D` set to the folder after `-d`.
pub(crate) fn pip(dir: &Path, script: &str) -> Vec<Vec<String>> {
    let path = dir.join("pip.sh");
    let head = "while [ \"$1\" != -d ]; do shift; done; D=$2; shift 3; set -e\n";
    std::fs::write(&path, format!("{head}{script}\n")).unwrap();
    vec![vec!["sh".to_owned(), path.to_str().unwrap().to_owned()]]
}

pub(crate) fn failures(error: HubError) -> Vec<SourceFailure> {
    match error {
        HubError::AllSourcesFailed { failures, .. } => failures,
        other => panic!("{other:?}"),
    }
}
