//! Downloads over HTTP: Hugging Face and plain web servers.
//!
//! Redirects are followed here and not by the client, for three reasons: Hugging Face states the file's SHA-256 and size
//! on the redirect itself; the token must reach the endpoint and no other host; and a digest that differs from the pinned
//! one ends the pull before the first byte of the body.

use std::error::Error as _;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{StatusCode, Url};

use super::resume::{Part, PartOf, ServerTag};
use super::{Delivered, Job, check_space};
use crate::digest::Digest;
use crate::error::{Pinned, Restriction, SourceError, TokenSent};
use crate::options::{PullOptions, Token};
use crate::progress::Event;
use crate::reference::HfFile;

const MAX_REDIRECTS: usize = 10;
/// The longest wait between two tries, whatever a server asks for.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Downloads a file of a Hugging Face repository (`GET <endpoint>/<repo>/resolve/<revision>/<file>`).
pub(super) fn fetch_huggingface(file: &HfFile, job: &Job<'_>) -> Result<Delivered, SourceError> {
    let setting = |why: String| SourceError::Setting { setting: "HF_ENDPOINT", why };
    let mut url = Url::parse(&job.options.hf_endpoint).map_err(|error| setting(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(setting(format!("{url} is not a http or https address")));
    }
    let path = [&file.repo, "resolve", &file.revision, &file.file];
    url.path_segments_mut()
        .map_err(|()| setting("it cannot be a base address".into()))?
        .pop_if_empty()
        .extend(path.iter().flat_map(|part| part.split('/')));
    Download::new(url, Some(file), job)?.run()
}

/// Downloads a file from a web server.
pub(super) fn fetch_url(url: &str, job: &Job<'_>) -> Result<Delivered, SourceError> {
    let url = Url::parse(url).map_err(|error| SourceError::Setting { setting: "url", why: error.to_string() })?;
    Download::new(url, None, job)?.run()
}

struct Download<'a> {
    url: Url,
    /// Set where the server is a hub, whose headers are believed and which gets the token.
    repo_file: Option<&'a HfFile>,
    job: &'a Job<'a>,
    part: Part,
}

/// What a hub states about a file before it sends it.
#[derive(Default)]
struct Stated {
    sha256: Option<Digest>,
    size: Option<u64>,
    commit: Option<String>,
}

impl Stated {
    fn read(&mut self, headers: &HeaderMap) {
        let text = |name: &'static str| headers.get(HeaderName::from_static(name))?.to_str().ok();
        let digest = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').parse::<Digest>().ok();
        // The ETag of a large file is its SHA-256 too, on the hub and on mirrors of it.
        let stated = text("x-linked-etag").and_then(digest).or_else(|| text("etag").and_then(digest));
        self.sha256 = stated.or(self.sha256);
        self.size = text("x-linked-size").and_then(|n| n.parse().ok()).or(self.size);
        self.commit = text("x-repo-commit").map(str::to_owned).or(self.commit.take());
    }
}

impl<'a> Download<'a> {
    fn new(url: Url, repo_file: Option<&'a HfFile>, job: &'a Job<'a>) -> Result<Self, SourceError> {
        let mut part = Part::open(job.folder, &job.options.cancel)?;
        if part.part_of().is_some_and(|of| job.expected.check_digest(of.sha256).is_err()) {
            part.reset()?;
        }
        Ok(Download { url, repo_file, job, part })
    }

    fn run(mut self) -> Result<Delivered, SourceError> {
        if self.part.is_whole() {
            // The last pull ended after the last byte.
            return self.finish(Stated::default());
        }
        let options = self.job.options;
        let mut tries_left = options.retries;
        let mut wait = options.retry_wait;
        let mut received = false;
        loop {
            let before = self.part.len();
            let error = match self.attempt() {
                Ok(delivered) => return Ok(delivered),
                Err(error) => error,
            };
            if self.part.len() > before {
                received = true;
                tries_left = options.retries;
                wait = options.retry_wait;
            }
            if tries_left == 0 || !may_pass(&error, received) {
                return Err(error);
            }
            tries_left -= 1;
            let asked = match &error {
                SourceError::Status { retry_after, .. } => retry_after.unwrap_or(wait),
                _ => wait,
            };
            let pause = asked.max(wait).min(MAX_WAIT);
            self.job.progress.event(Event::Retrying { error: &error, wait: pause });
            options.cancel.sleep(pause);
            options.cancel.check()?;
            wait = wait.saturating_mul(2);
        }
    }

    /// One request, from where the part ends to the end of the file.
    fn attempt(&mut self) -> Result<Delivered, SourceError> {
        let (response, stated) = self.open()?;
        let host = host_of(response.url());
        let body_len = response.content_length();
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match range.and_then(parse_content_range) {
                    Some((start, total)) if start == self.part.len() => total,
                    _ => {
                        self.part.reset()?;
                        let why = "it sent another part of the file than was asked for".to_owned();
                        return Err(SourceError::Broken { host, why });
                    }
                }
            }
            // The server takes no ranges, or its file is not the one the part is of.
            _ => {
                if self.part.len() > 0 {
                    self.part.reset()?;
                }
                body_len
            }
        };
        let part_of = self.identify(&response, &stated, total)?;
        let size = part_of.size;
        check_space(self.job, size.saturating_sub(self.part.len()))?;
        self.part.belongs_to(part_of)?;
        self.receive(response, size)?;
        self.finish(stated)
    }

    /// What is being received: its digest and size must be known, and agree with all that is known.
    fn identify(&self, response: &Response, stated: &Stated, total: Option<u64>) -> Result<PartOf, SourceError> {
        let host = host_of(response.url());
        let expected = self.job.expected;
        let nothing = |what| SourceError::NothingToCheck { host: host.clone(), what };
        let sha256 = expected.sha256.or(stated.sha256).ok_or_else(|| nothing("SHA-256"))?;
        let size = expected.size.or(stated.size).or(total).ok_or_else(|| nothing("size"))?;
        for found in [stated.size, total].into_iter().flatten() {
            if found != size {
                return Err(SourceError::SizeMismatch { expected: size, found });
            }
        }
        let etag = response.headers().get(header::ETAG).and_then(|value| value.to_str().ok());
        let etag = etag.filter(|etag| !etag.starts_with("W/")).map(|etag| ServerTag { host, etag: etag.to_owned() });
        Ok(PartOf { sha256, size, etag })
    }

    /// Sends the request and follows redirects up to the answer that carries the file.
    fn open(&mut self) -> Result<(Response, Stated), SourceError> {
        let origin = self.url.origin();
        let token: Option<&Token> = self.repo_file.and(self.job.options.hf_token.as_ref());
        let mut stated = Stated::default();
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.job.options.cancel.check()?;
            let at_origin = url.origin() == origin;
            let mut request =
                client(self.job.options, &url)?.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = token.filter(|_| at_origin) {
                request = request.bearer_auth(token.expose());
            }
            if self.part.len() > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", self.part.len()));
                let tag = self.part.part_of().and_then(|of| of.etag.as_ref());
                if let Some(tag) = tag.filter(|tag| tag.host == host_of(&url)) {
                    request = request.header(header::IF_RANGE, &tag.etag);
                }
            }
            let response = request.send().map_err(|error| self.describe(&error, &url))?;
            if at_origin && self.repo_file.is_some() {
                stated.read(response.headers());
                self.heed(&stated)?;
            }
            let status = response.status();
            if !status.is_redirection() {
                return self.check_status(response, at_origin).map(|response| (response, stated));
            }
            let refuse = |to: String, why| SourceError::Redirect { host: host_of(&url), to, why };
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let Some(next) = location.and_then(|location| url.join(location).ok()) else {
                return Err(refuse(location.unwrap_or("nowhere").to_owned(), "it is not an address"));
            };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(refuse(host_of(&next), "it is not encrypted"));
            }
            if !matches!(next.scheme(), "http" | "https") {
                return Err(refuse(next.scheme().to_owned(), "it is not http or https"));
            }
            url = next;
        }
        Err(SourceError::Redirect { host: host_of(&self.url), to: host_of(&url), why: "too many redirects" })
    }

    /// Ends a pull of the wrong file before its body, and drops a part of another file.
    fn heed(&mut self, stated: &Stated) -> Result<(), SourceError> {
        let Some(sha256) = stated.sha256 else { return Ok(()) };
        self.job.expected.check_digest(sha256)?;
        if self.part.part_of().is_some_and(|of| of.sha256 != sha256) {
            self.part.reset()?;
        }
        Ok(())
    }

    fn check_status(&mut self, response: Response, at_origin: bool) -> Result<Response, SourceError> {
        let status = response.status();
        let host = host_of(response.url());
        let headers = response.headers();
        match (status, self.repo_file) {
            (StatusCode::OK | StatusCode::PARTIAL_CONTENT, _) => Ok(response),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(file)) if at_origin => {
                let code = headers.get("x-error-code").and_then(|value| value.to_str().ok());
                Err(SourceError::Restricted {
                    repo: file.repo.clone(),
                    page: format!("{}/{}", self.url.origin().ascii_serialization(), file.repo),
                    status: status.as_u16(),
                    restriction: match code {
                        Some("GatedRepo") => Restriction::Gated,
                        _ => Restriction::PrivateOrMissing,
                    },
                    token: if self.job.options.hf_token.is_some() { TokenSent::Yes } else { TokenSent::No },
                })
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE, file) => {
                let what = file.map_or_else(|| self.url.to_string(), HfFile::to_string);
                Err(SourceError::NotFound { what })
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _) if self.part.len() > 0 => {
                self.part.reset()?;
                Err(SourceError::Broken { host, why: "it has no more of the file than is already here".into() })
            }
            _ => {
                let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let retry_after = seconds.map(Duration::from_secs);
                Err(SourceError::Status { host, status: status.as_u16(), retry_after })
            }
        }
    }

    fn receive(&mut self, mut response: Response, size: u64) -> Result<(), SourceError> {
        let url = response.url().clone();
        let mut meter = self.job.meter(size);
        meter.send(self.part.len());
        let mut buffer = vec![0u8; 1 << 18];
        loop {
            self.job.options.cancel.check()?;
            let n = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>()) {
                        Some(inner) => self.describe(inner, &url),
                        None => SourceError::Broken { host: host_of(&url), why: error.to_string() },
                    });
                }
            };
            let after = self.part.len().saturating_add(n as u64);
            if after > size {
                self.part.reset()?;
                return Err(SourceError::SizeMismatch { expected: size, found: after });
            }
            self.part.append(&buffer[..n])?;
            meter.update(after);
        }
        meter.send(self.part.len());
        if self.part.len() < size {
            let why = format!("it ended after {} of {size} bytes", self.part.len());
            return Err(SourceError::Broken { host: host_of(&url), why });
        }
        Ok(())
    }

    fn finish(&mut self, stated: Stated) -> Result<Delivered, SourceError> {
        let found = self.part.digest();
        let Some(expected) = self.part.part_of().map(|of| of.sha256) else {
            return Err(SourceError::NothingToCheck { host: host_of(&self.url), what: "SHA-256" });
        };
        if found != expected {
            let inherited = self.part.inherited();
            self.part.reset()?;
            if inherited {
                // The bytes of an earlier run may be the wrong ones: once more from the start.
                let why = "the part from an earlier run does not fit the rest".to_owned();
                return Err(SourceError::Broken { host: host_of(&self.url), why });
            }
            return Err(SourceError::DigestMismatch { expected, found, pinned: Pinned::No });
        }
        let size = self.part.len();
        Ok(Delivered { path: self.part.finish()?, size, sha256: found, commit: stated.commit })
    }

    fn describe(&self, error: &reqwest::Error, url: &Url) -> SourceError {
        let host = host_of(url);
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        if error.is_builder() {
            // The only parts of a request that come from outside are the address, which was parsed, and the token.
            SourceError::Setting { setting: "HF_TOKEN", why }
        } else if error.is_connect() {
            if error.is_timeout() {
                why = format!("no answer within {} s", self.job.options.connect_timeout.as_secs());
            }
            SourceError::Connect { host, why }
        } else if error.is_timeout() {
            SourceError::Timeout { host, after: self.job.options.read_timeout }
        } else {
            SourceError::Broken { host, why }
        }
    }
}

/// Whether the same request may succeed a little later. A host that never answered is not waited for: the next source is
/// tried instead. Once bytes came, a lost network is worth waiting for.
fn may_pass(error: &SourceError, received: bool) -> bool {
    match error {
        SourceError::Connect { .. } => received,
        SourceError::Broken { .. } | SourceError::Timeout { .. } => true,
        // A 403 that is not the hub's own (that is `Restricted`) is a download link that ran out; a new request gets a new one.
        SourceError::Status { status, .. } => matches!(status, 403 | 408 | 429 | 500 | 502 | 503 | 504),
        _ => false,
    }
}

/// A client for this address: proxies from the environment, but never for this machine itself.
fn client(options: &PullOptions, url: &Url) -> Result<Client, SourceError> {
    // A second installation in the same process is refused, and the first does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder();
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder
        .user_agent(concat!("bantam/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(options.connect_timeout)
        // In the blocking client this limits each wait for bytes, not the whole download.
        .timeout(options.read_timeout)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
        .map_err(|error| SourceError::Setting {
            setting: "the HTTP client",
            why: error.source().map_or_else(|| error.to_string(), |inner| format!("{error}: {inner}")),
        })
}

/// Whether this is an address of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.to_string(),
    }
}

/// `bytes 5-9/10` as (5, Some(10)); `*` as the total is `None`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total: Option<u64> = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes */10",
            "items 0-1/2",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
