//! Connections and requests of a mock.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::behaviour::{Behaviour, BehaviourError, MockFault};
use super::body::{Broken, Ending, Event, MockBody, Paced, Piece, Watch, pause};
use super::script::Script;
use super::{BEHAVIOUR_HEADER, Seen, Shared, anthropic, openai};

/// Most bytes of a request.
const MAX_BODY: usize = 64 << 20;
const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n";
const GARBAGE: &[u8] = b"\x00\x01\xff garbage, and no answer \xfe\r\n\r\n";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
            // Such as too many open files: others may close.
            Err(_) => pause(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A socket that is already dead will say so later.
    let _ = stream.set_nodelay(true);
    let garbage = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (shared, garbage) = (Arc::clone(&shared), &garbage);
        Box::pin(async move {
            let answer = answer(shared, request).await;
            if matches!(answer, Err(Broken::Garbage)) {
                garbage.store(true, Ordering::Relaxed);
            }
            answer
        })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How it ended is what the behaviour or the client wanted.
    let _ = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    if garbage.load(Ordering::Relaxed) {
        let _ = stream.write_all(GARBAGE).await;
    }
    let _ = stream.shutdown().await;
}

/// The APIs that a mock has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    Chat,
    Completions,
    Embeddings,
    Messages,
}

impl Api {
    fn of(path: &str) -> Option<Self> {
        match path {
            _ if path.ends_with("/chat/completions") => Some(Api::Chat),
            _ if path.ends_with("/completions") => Some(Api::Completions),
            _ if path.ends_with("/embeddings") => Some(Api::Embeddings),
            _ if path.ends_with("/messages") => Some(Api::Messages),
            _ => None,
        }
    }
}

type Answer = Result<Response<MockBody>, Broken>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut watch = Watch::new(Arc::clone(&shared));
    let api = Api::of(parts.uri.path());
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        watch.done();
        return error(api, 413, "the body did not come, or is too large", watch);
    };
    let body = body.to_bytes();
    let number = shared.requests.fetch_add(1, Ordering::SeqCst);
    if shared.keep > 0 {
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push_back(Seen { path, headers: parts.headers.clone(), body: body.clone() });
        let extra = seen.len().saturating_sub(shared.keep);
        seen.drain(..extra);
    }
    let path = parts.uri.path();
    if parts.method == Method::GET {
        return match path {
            "/health" if shared.ready.load(Ordering::Relaxed) => {
                whole(StatusCode::OK, JSON, Bytes::from_static(b"{}"), watch)
            }
            "/health" => error(None, 503, "not ready", watch),
            _ if path.ends_with("/models") => json(&openai::models(), watch),
            _ => error(None, 404, "there is no such page", watch),
        };
    }
    if !authorised(&shared, &parts.headers) {
        return error(api, 401, "the key is wrong", watch);
    }
    let Some(api) = api.filter(|_| parts.method == Method::POST) else {
        return error(None, 404, "there is no such API", watch);
    };
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return error(Some(api), 400, "the body is not JSON", watch);
    };
    let (model, behaviour) = match behaviour(&shared, &parts.headers, &request) {
        Ok(found) => found,
        Err(fault) => return error(Some(api), 400, &fault.to_string(), watch),
    };
    let mut random = fastrand::Rng::with_seed(shared.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let answering =
        Answering { api, model: &model, request: &request, behaviour: strike(&shared, behaviour, &mut random) };
    answering.run(&shared, random, watch).await
}

fn authorised(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(key) = &shared.key else { return true };
    let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = sent("authorization").and_then(|value| value.strip_prefix("Bearer "));
    [bearer, sent("x-api-key"), sent("api-key")].contains(&Some(key))
}

/// The model's name without what follows `+`, and how this request is to be answered.
fn behaviour(shared: &Shared, headers: &HeaderMap, request: &Value) -> Result<(String, Behaviour), BehaviourError> {
    let mut behaviour = shared.behaviour.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(text) = headers.get(BEHAVIOUR_HEADER).and_then(|value| value.to_str().ok()) {
        behaviour = behaviour.with(text)?;
    }
    let name = request["model"].as_str().unwrap_or("mock");
    let (name, text) = name.split_once('+').unwrap_or((name, ""));
    Ok((name.to_owned(), behaviour.with(text)?))
}

/// Takes the fault away if it does not meet this request.
fn strike(shared: &Shared, mut behaviour: Behaviour, random: &mut fastrand::Rng) -> Behaviour {
    let lucky = random.f64() >= behaviour.share;
    let over = behaviour.first.is_some_and(|first| {
        let mut hasher = DefaultHasher::new();
        format!("{behaviour:?}").hash(&mut hasher);
        let mut struck = shared.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let count = struck.entry(hasher.finish()).or_insert(0);
        *count += 1;
        *count > first
    });
    if lucky || over {
        behaviour.fault = None;
    }
    behaviour
}

struct Answering<'a> {
    api: Api,
    model: &'a str,
    request: &'a Value,
    behaviour: Behaviour,
}

impl Answering<'_> {
    async fn run(&self, shared: &Shared, mut random: fastrand::Rng, mut watch: Watch) -> Answer {
        let behaviour = &self.behaviour;
        if behaviour.fault == Some(MockFault::Hang) {
            std::future::pending::<()>().await;
        }
        pause(behaviour.ttft.draw(&mut random)).await;
        match behaviour.fault {
            Some(MockFault::Close) => {
                watch.done();
                return Err(Broken::Close);
            }
            Some(MockFault::Garbage) => {
                watch.done();
                return Err(Broken::Garbage);
            }
            Some(MockFault::Status(status)) => {
                let mut answer = error(Some(self.api), status, "the behaviour wants it so", watch)?;
                if let Some(value) = behaviour.retry_after.as_ref().and_then(|text| HeaderValue::from_str(text).ok()) {
                    answer.headers_mut().insert(header::RETRY_AFTER, value);
                }
                return Ok(answer);
            }
            Some(MockFault::Html) => return whole(StatusCode::BAD_GATEWAY, HTML, PAGE.into(), watch),
            Some(MockFault::Page) => return whole(StatusCode::OK, HTML, PAGE.into(), watch),
            Some(MockFault::Redirect) => {
                let mut answer = whole(StatusCode::TEMPORARY_REDIRECT, JSON, Bytes::new(), watch)?;
                answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/elsewhere"));
                return Ok(answer);
            }
            Some(MockFault::Huge(bytes)) => return respond(StatusCode::OK, JSON, MockBody::Huge(bytes, watch)),
            _ => {}
        }
        let asked = match self.api {
            Api::Embeddings => {
                let body = openai::embeddings(self.request, self.model);
                return self.whole(&body, Duration::ZERO, watch).await;
            }
            Api::Chat => openai::chat_asked(self.request, self.model),
            Api::Completions => openai::completion_asked(self.request, self.model),
            Api::Messages => anthropic::asked(self.request, self.model),
        };
        let script = Script::new(shared, behaviour, &asked);
        if self.request["stream"] == true {
            let events = match self.api {
                Api::Messages => anthropic::events(&script, behaviour),
                Api::Completions => openai::completion_events(&script, behaviour, self.request),
                _ => openai::chat_events(&script, behaviour, self.request),
            };
            return respond(StatusCode::OK, EVENTS, self.stream(events, &mut random, watch));
        }
        let computing = script.tokens.iter().map(|_| behaviour.token.draw(&mut random)).sum();
        let body = match self.api {
            Api::Messages => anthropic::messages(&script),
            Api::Completions => openai::completion(&script),
            _ => openai::chat(&script, self.request),
        };
        self.whole(&body, computing, watch).await
    }

    async fn whole(&self, body: &Value, computing: Duration, watch: Watch) -> Answer {
        pause(computing).await;
        let mut bytes = body.to_string().into_bytes();
        let length = Some(bytes.len() as u64);
        let body = match self.behaviour.fault {
            Some(MockFault::Cut(n)) | Some(MockFault::Stall(n)) => {
                let ending = if matches!(self.behaviour.fault, Some(MockFault::Cut(_))) {
                    Ending::Abort
                } else {
                    Ending::Silence
                };
                bytes.truncate(n as usize);
                let pieces = vec![Piece { wait: Duration::ZERO, bytes }];
                MockBody::Paced(Box::new(Paced::new(pieces, ending, length, watch)))
            }
            Some(MockFault::Slow(millis)) => {
                MockBody::Paced(Box::new(Paced::new(one_by_one(&bytes, millis), Ending::Clean, length, watch)))
            }
            Some(MockFault::Broken) => {
                bytes.truncate(bytes.len() / 2);
                MockBody::Whole(Some(bytes.into()), watch)
            }
            _ => MockBody::Whole(Some(bytes.into()), watch),
        };
        respond(StatusCode::OK, JSON, body)
    }

    fn stream(&self, events: Vec<Event>, random: &mut fastrand::Rng, watch: Watch) -> MockBody {
        let behaviour = &self.behaviour;
        let (mut pieces, mut ending, mut tokens) = (Vec::with_capacity(events.len()), Ending::Clean, 0);
        for mut event in events {
            let mut wait = Duration::ZERO;
            if event.is_token {
                match behaviour.fault {
                    Some(MockFault::Cut(n)) if tokens == n => ending = Ending::Abort,
                    Some(MockFault::Stall(n)) if tokens == n => ending = Ending::Silence,
                    Some(MockFault::Broken) => event.bytes = b"data: {\"choices\": [\n\n".to_vec(),
                    _ => {}
                }
                // The first comes when all of the prompt is computed, which is over.
                if tokens > 0 {
                    wait = behaviour.token.draw(random);
                }
                tokens += 1;
            }
            match (ending, behaviour.fault) {
                (Ending::Clean, Some(MockFault::Slow(millis))) => pieces.extend(one_by_one(&event.bytes, millis)),
                (Ending::Clean, _) => pieces.push(Piece { wait, bytes: event.bytes }),
                (Ending::Abort, _) => {
                    event.bytes.truncate(event.bytes.len() / 2);
                    pieces.push(Piece { wait, bytes: event.bytes });
                    break;
                }
                (Ending::Silence, _) => break,
            }
        }
        MockBody::Paced(Box::new(Paced::new(pieces, ending, None, watch)))
    }
}

fn one_by_one(bytes: &[u8], millis: u32) -> Vec<Piece> {
    let wait = Duration::from_millis(u64::from(millis));
    bytes.iter().map(|&byte| Piece { wait, bytes: vec![byte] }).collect()
}

fn error(api: Option<Api>, status: u16, message: &str, watch: Watch) -> Answer {
    let body =
        if api == Some(Api::Messages) { anthropic::error(status, message) } else { openai::error(status, message) };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(status, JSON, body.to_string().into(), watch)
}

fn json(body: &Value, watch: Watch) -> Answer {
    whole(StatusCode::OK, JSON, body.to_string().into(), watch)
}

fn whole(status: StatusCode, kind: HeaderValue, body: Bytes, watch: Watch) -> Answer {
    respond(status, kind, MockBody::Whole(Some(body), watch))
}

fn respond(status: StatusCode, kind: HeaderValue, body: MockBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(answer)
}
