//! The dashboard as a browser asks for it.

use bantam_gateway::{ConfigFile, GatewayConfig};
use bantam_ledger::{Ledger, LedgerConfig};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::json;
use sqlx::Connection;
use tempfile::TempDir;

use crate::client::{Client, Reply, parse_events};
use crate::server::{MODEL, Options, Server, start_with};
use crate::upstreams::{chat, file, mock};

const SECRET: &str = "a secret of 24 characters";

/// What no text may become.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;";

struct House {
    server: Server,
    ledger: Option<Ledger>,
    dir: TempDir,
}

/// Where a server listens, and what it asks for.
enum Door {
    /// On loopback, without an admin secret.
    Open,
    /// On loopback, with an admin secret.
    Locked,
    /// On every address, without an admin secret.
    Outside,
}

async fn house(mut file: ConfigFile, door: Door) -> House {
    let dir = tempfile::tempdir().unwrap();
    if matches!(door, Door::Locked) {
        let path = dir.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        file.keys.admin = Some(bantam_gateway::SecretRef { env: None, file: Some(path) });
    }
    let mut gateway = GatewayConfig { port: 0, ..GatewayConfig::default() };
    if matches!(door, Door::Outside) {
        gateway.host = "0.0.0.0".into();
    }
    let ledger = Ledger::open(LedgerConfig::sqlite(&dir.path().join("ledger.db"))).await.unwrap();
    let options = Options { file, gateway, ledger: Some(ledger.clone()), ..Options::default() };
    let mut server = start_with(options).await;
    server.address.set_ip([127, 0, 0, 1].into());
    House { server, ledger: Some(ledger), dir }
}

/// A form as a browser sends it.
fn form(path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    request.body(Full::from(body)).unwrap()
}

fn with(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// The token in a page's forms.
#[track_caller]
fn token(page: &Reply) -> String {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form: {}", page.body));
    rest.split_once('"').unwrap().0.to_owned()
}

/// A page is whole, may load nothing from elsewhere, and has neither scripts nor styles in it.
#[track_caller]
fn check_page(path: &str, reply: &Reply) {
    let policy = reply.header("content-security-policy").unwrap_or_else(|| panic!("{path}: no policy"));
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}: {policy}");
    for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    let page = &reply.body;
    assert!(page.trim_end().ends_with("</html>"), "{path}: {page}");
    for inline in [" style=", " onclick", " onerror", "<style", "javascript:", "http://", "https://"] {
        // What is escaped is text.
        let found = page.replace("&lt;", "").replace("&#60;", "");
        let outside_texts = found.replace("onerror=alert(2)", "").replace("img src=x ", "");
        assert!(!outside_texts.contains(inline), "{path}: {inline}");
    }
    assert_eq!(page.matches("<script").count(), 1, "{path}");
    assert!(page.contains("<script src=\"/dashboard/dashboard.js?v="), "{path}");
    for landmark in
        ["<html lang=\"en\">", "class=\"skip\" href=\"#main\"", "<nav aria-label=", "<main id=\"main\"", "<h1>"]
    {
        assert!(page.contains(landmark), "{path}: {landmark}");
    }
    assert_eq!(page.matches("<table").count(), page.matches("<caption").count(), "{path}: a table without a caption");
    for tag in ["section", "table", "form", "details", "div", "dl", "ul", "figure"] {
        let (open, shut) = (format!("<{tag}>"), format!("</{tag}>"));
        let opened = page.matches(&open).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&shut).count(), "{path}: {tag} in {page}");
    }
}

async fn page(client: &mut Client, path: &str) -> Reply {
    let reply = client.get(path).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    check_page(path, &reply);
    reply
}

const PAGES: [&str; 12] = [
    "/dashboard",
    "/dashboard?range=hour",
    "/dashboard?range=week",
    "/dashboard?range=month",
    "/dashboard/requests",
    "/dashboard/requests?range=week&status=400&provider=there&from=2026-01-01T00:00",
    "/dashboard/errors",
    "/dashboard/routes",
    "/dashboard/routes?range=hour",
    "/dashboard/keys",
    "/dashboard/audit",
    "/dashboard/playground",
];

#[tokio::test]
async fn every_page_is_there_before_and_after_requests() {
    let mock = mock(&[("Hi", "Hello from there.")]).await;
    let more = format!(
        "[keys]\nbudget_per_day = \"5\"\n[auto]\nsmall = \"{MODEL}\"\nlarge = \"big\"\ncascade = 0.5\n\
         [[prices.models]]\nname = \"gpt-big\"\ninput_per_million = 1.0\noutput_per_million = 4.0"
    );
    let house = house(file(&mock, &more), Door::Open).await;
    let mut client = house.server.client().await;
    for path in PAGES {
        page(&mut client, path).await;
    }
    let mut ids = Vec::new();
    for model in ["big", "other", MODEL, "auto", "failing"] {
        let reply = client.post("/v1/chat/completions", chat(model, "Hi")).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        ids.push(reply.header("x-bantam-id").unwrap().to_owned());
    }
    client.post("/v1/chat/completions", chat("none", "Hi")).await;
    client.post("/v1/feedback", json!({"id": ids[0], "rating": 1, "accepted": true})).await;
    // The last requests are kept for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for path in PAGES {
        page(&mut client, path).await;
    }
    let overview = page(&mut client, "/dashboard").await.body;
    for id in &ids {
        assert!(overview.contains(&format!("/dashboard/requests/{id}")), "{id}");
        page(&mut client, &format!("/dashboard/requests/{id}")).await;
    }
    assert!(overview.contains("there/gpt-big") && overview.contains("in use"), "{overview}");
    assert_eq!(overview.matches("no price").count(), 1, "{overview}");
    let story = page(&mut client, &format!("/dashboard/requests/{}", ids[0])).await.body;
    assert!(story.contains("Hash") && story.contains("good") && story.contains("yes"), "{story}");
    let story = page(&mut client, &format!("/dashboard/requests/{}", ids[4])).await.body;
    assert!(story.contains("503") && story.contains("local/toy"), "{story}");
    let failed = page(&mut client, "/dashboard/errors").await.body;
    assert!(failed.contains("404 model_not_found"), "{failed}");
    let routes = page(&mut client, "/dashboard/routes").await.body;
    assert!(
        routes.contains("confidence of its answer")
            && routes.contains("fallback 1")
            && routes.contains("$1.00 / $4.00"),
        "{routes}"
    );
}

#[tokio::test]
async fn the_record_is_verified_on_demand() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut client = house.server.client().await;
    client.post("/v1/chat/completions", chat("big", "Hi")).await;
    let ledger = house.ledger.as_ref().unwrap();
    ledger.checkpoint().await.unwrap();
    let before = page(&mut client, "/dashboard/audit").await;
    let key = ledger.public_key();
    for part in ["has not been verified", &key.id(), &key.to_string(), "signed "] {
        assert!(before.body.contains(part), "{part}: {}", before.body);
    }
    let forged = client.reply(form("/dashboard/audit/verify", &[])).await;
    assert_eq!(forged.status, 403);
    let verify = |token: &str| form("/dashboard/audit/verify", &[("csrf", token)]);
    let sent = client.reply(verify(&token(&before))).await;
    assert_eq!(sent.status, 303, "{}", sent.body);
    assert_eq!(sent.header("location"), Some("/dashboard/audit"));
    let after = page(&mut client, "/dashboard/audit").await.body;
    assert!(after.contains("banner good") && after.contains("as it was written. Entries: 2;"), "{after}");
    assert!(page(&mut client, "/dashboard").await.body.contains("it is as it was written"));

    // Somebody who can write the file says that the request was another's.
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(house.dir.path().join("ledger.db"));
    let mut file = sqlx::SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("UPDATE entries SET at = at + 1").execute(&mut file).await.unwrap();
    assert_eq!(client.reply(verify(&token(&before))).await.status, 303);
    let after = page(&mut client, "/dashboard/audit").await.body;
    assert!(
        after.contains("banner bad") && after.contains("it is not what was written. entry 1 of chain 1"),
        "{after}"
    );
}

#[tokio::test]
async fn what_was_found_is_downloaded() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut client = house.server.client().await;
    for model in ["big", "=1+1,\"x\"", "big"] {
        client.post("/v1/chat/completions", chat(model, "Hi")).await;
    }
    let found = page(&mut client, "/dashboard/requests?range=hour&status=400").await.body;
    let csv = "/dashboard/requests.csv?range=hour&status=400";
    assert!(found.contains(&csv.replace('&', "&#38;")) && found.contains("/dashboard/requests.jsonl?"), "{found}");
    let failed = client.get(csv).await;
    assert_eq!(failed.header("content-disposition"), Some("attachment; filename=\"requests.csv\""));
    let lines: Vec<&str> = failed.body.lines().collect();
    assert_eq!(lines.len(), 2, "{}", failed.body);
    assert!(lines[0].starts_with("id,arrived,key,api,asked,"), "{}", lines[0]);
    assert!(
        lines[1].contains(",chat,\"'=1+1,\"\"x\"\"\",,") && lines[1].contains(",refused,404,model_not_found,"),
        "{}",
        lines[1]
    );

    let all = client.get("/dashboard/requests.jsonl").await;
    let entries: Vec<serde_json::Value> = all.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked: Vec<&str> = entries.iter().map(|line| line["entry"]["asked"].as_str().unwrap()).collect();
    assert_eq!(asked, ["big", "=1+1,\"x\"", "big"]);
    assert!(entries.iter().all(|line| line["id"].is_string() && line["seq"].is_u64() && line["hash"].is_string()));
    assert_eq!(client.get("/dashboard/requests.csv?range=year").await.status, 400);
}

#[tokio::test]
async fn requests_are_found_and_come_page_by_page() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut client = house.server.client().await;
    for _ in 0..53 {
        client.post("/v1/chat/completions", chat("big", "Hi")).await;
    }
    client.post("/v1/chat/completions", chat("none", "Hi")).await;
    let rows = |reply: &Reply| reply.body.matches("<td><a href=\"/dashboard/requests/").count();
    let first = page(&mut client, "/dashboard/requests?model=gpt-big").await;
    assert_eq!(rows(&first), 50);
    let (_, rest) = first.body.split_once("<a href=\"/dashboard/requests?model=gpt-big&#38;before=").unwrap();
    let before = rest.split_once('"').unwrap().0;
    let second = page(&mut client, &format!("/dashboard/requests?model=gpt-big&before={before}")).await;
    assert_eq!(rows(&second), 3);
    assert_eq!(rows(&page(&mut client, "/dashboard/requests?status=400").await), 1);
    assert_eq!(rows(&page(&mut client, "/dashboard/requests?status=500").await), 0);
    assert_eq!(rows(&page(&mut client, "/dashboard/requests?to=2026-01-01T00:00&from=2025-01-01T00:00").await), 0);
    for wrong in ["range=year", "from=yesterday", "before=1", "status=none", "key=%00".repeat(200).as_str()] {
        let reply = client.get(&format!("/dashboard/requests?{wrong}")).await;
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.body);
        check_page(wrong, &reply);
    }
    for nowhere in
        ["/dashboard/requests/1", "/dashboard/requests/0190f4a2-0000-7000-8000-000000000000", "/dashboard/none"]
    {
        let reply = client.get(nowhere).await;
        assert_eq!(reply.status, 404, "{nowhere}: {}", reply.body);
        check_page(nowhere, &reply);
    }
}

#[tokio::test]
async fn what_others_wrote_stays_text() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut client = house.server.client().await;
    let mut body = chat(HOSTILE, HOSTILE);
    body["user"] = HOSTILE.into();
    client.post("/v1/chat/completions", body).await;
    let made = client.post("/admin/keys", json!({"name": HOSTILE, "models": [HOSTILE]})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    client.post("/v1/chat/completions", chat("gpt\u{202e}4o", "Hi")).await;
    let overview = page(&mut client, "/dashboard").await;
    assert!(overview.body.contains("script&#62;alert(1)"), "{}", overview.body);
    assert!(overview.body.contains("gpt[U+202E]4o") && !overview.body.contains('\u{202e}'), "{}", overview.body);
    let (_, rest) = overview.body.split_once("<td><a href=\"/dashboard/requests/").unwrap();
    let story = format!("/dashboard/requests/{}", rest.split_once('"').unwrap().0);
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("model", HOSTILE).finish();
    for path in
        ["/dashboard/requests", &format!("/dashboard/requests?{query}"), "/dashboard/errors", "/dashboard/keys", &story]
    {
        page(&mut client, path).await;
    }
    let keys = page(&mut client, "/dashboard/keys").await;
    let ask = [("csrf", &*token(&keys)), ("prompt", HOSTILE), ("left", HOSTILE), ("right", MODEL)];
    let answered = client.reply(form("/dashboard/playground", &ask)).await;
    assert_eq!(answered.status, 200);
    check_page("playground", &answered);
}

#[tokio::test]
async fn nobody_sees_anything_without_logging_in() {
    let mock = mock(&[]).await;
    for door in [Door::Locked, Door::Outside] {
        let house = house(file(&mock, ""), door).await;
        let mut client = house.server.client().await;
        for path in
            PAGES.iter().chain(&["/dashboard/requests/0190f4a2-0000-7000-8000-000000000000", "/dashboard/requests.csv"])
        {
            let reply = client.get(path).await;
            assert_eq!(reply.status, 303, "{path}: {}", reply.body);
            assert!(reply.header("location").unwrap().starts_with("/dashboard/login"), "{path}");
            assert!(reply.body.is_empty());
        }
        let live = with(Request::get("/dashboard/live").body(Full::default()).unwrap(), "accept", "text/event-stream");
        assert_eq!(client.reply(live).await.status, 401);
        for path in [
            "/dashboard/keys",
            "/dashboard/keys/x/revoke",
            "/dashboard/keys/x/rotate",
            "/dashboard/audit/verify",
            "/dashboard/playground",
            "/dashboard/logout",
        ] {
            let reply = client.reply(form(path, &[("csrf", "x"), ("name", "n"), ("inference", "on")])).await;
            assert_eq!(reply.status, 401, "{path}: {}", reply.body);
        }
        let reply = client.post("/dashboard/playground/answer", json!({"model": MODEL, "prompt": "Hi"})).await;
        assert_eq!(reply.status, 401);
        page(&mut client, "/dashboard/login").await;
        for path in ["/dashboard/dashboard.css", "/dashboard/dashboard.js"] {
            assert_eq!(client.get(path).await.status, 200);
        }
    }
}

async fn log_in(client: &mut Client, secret: &str) -> Result<String, u16> {
    let reply = client.reply(form("/dashboard/login", &[("secret", secret), ("next", "/dashboard/keys")])).await;
    if reply.status != 303 {
        check_page("login", &reply);
        return Err(reply.status.as_u16());
    }
    assert_eq!(reply.header("location"), Some("/dashboard/keys"));
    let cookie = reply.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/dashboard"),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure"), "{cookie}");
    Ok(cookie.split(';').next().unwrap().to_owned())
}

fn get(path: &str, cookie: &str) -> Request<Full<Bytes>> {
    with(Request::get(path).body(Full::default()).unwrap(), "cookie", cookie)
}

#[tokio::test]
async fn the_secret_opens_and_a_session_can_be_left() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Locked).await;
    let mut client = house.server.client().await;
    assert_eq!(log_in(&mut client, "wrong").await, Err(401));
    assert_eq!(log_in(&mut client, "").await, Err(401));
    let cookie = log_in(&mut client, SECRET).await.unwrap();
    let keys = client.reply(get("/dashboard/keys", &cookie)).await;
    assert_eq!(keys.status, 200, "{}", keys.body);
    assert!(keys.body.contains("Log out"));
    // A cookie that was changed anywhere is none.
    for (i, _) in cookie.char_indices().skip("bantam_session=".len()).step_by(7) {
        let mut forged = cookie.clone();
        let other = if &cookie[i..=i] == "A" { "B" } else { "A" };
        forged.replace_range(i..=i, other);
        assert_eq!(client.reply(get("/dashboard/keys", &forged)).await.status, 303, "{forged}");
    }
    // A token of somebody else's session is none here.
    let other = log_in(&mut client, SECRET).await.unwrap();
    let others = token(&client.reply(get("/dashboard/keys", &other)).await);
    let new = |token: &str| form("/dashboard/keys", &[("csrf", token), ("name", "app"), ("inference", "on")]);
    assert_eq!(client.reply(with(new(&others), "cookie", &cookie)).await.status, 403);
    let made = client.reply(with(new(&token(&keys)), "cookie", &cookie)).await;
    assert!(made.status == 200 && made.body.contains("sk-bantam-"), "{}", made.body);
    // Who leaves has left, whatever they kept.
    let leave = with(form("/dashboard/logout", &[("csrf", &token(&keys))]), "cookie", &cookie);
    let left = client.reply(leave).await;
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(client.reply(get("/dashboard/keys", &cookie)).await.status, 303);
    assert_eq!(client.reply(get("/dashboard/keys", &other)).await.status, 200);
    // Behind https the cookie stays there.
    let login = form("/dashboard/login", &[("secret", SECRET)]);
    let reply = client.reply(with(login, "x-forwarded-proto", "https")).await;
    assert!(reply.header("set-cookie").unwrap().ends_with("; Secure"), "{reply:?}");
    // Another secret ends the sessions of the one before.
    std::fs::write(house.dir.path().join("secret"), "another secret of these").unwrap();
    let mut changed = file(&mock, "");
    let path = Some(house.dir.path().join("secret"));
    changed.keys.admin = Some(bantam_gateway::SecretRef { env: None, file: path });
    house.server.reload.send(changed).await.unwrap();
    for _ in 0..200 {
        if client.reply(get("/dashboard/keys", &other)).await.status == 303 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the session outlived its secret");
}

#[tokio::test]
async fn a_key_with_the_scope_opens_until_it_is_revoked() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Outside).await;
    let ledger = house.ledger.as_ref().unwrap();
    let scopes = |scope| [scope].into_iter().collect();
    let new = |scope| bantam_ledger::keys::NewKey { name: "k".into(), scopes: scopes(scope), ..Default::default() };
    let (_, plain) = ledger.create_key(new(bantam_ledger::keys::Scope::Inference)).await.unwrap();
    let (admin, secret) = ledger.create_key(new(bantam_ledger::keys::Scope::Admin)).await.unwrap();
    let mut client = house.server.client().await;
    assert_eq!(log_in(&mut client, plain.reveal()).await, Err(401));
    let cookie = log_in(&mut client, secret.reveal()).await.unwrap();
    assert_eq!(client.reply(get("/dashboard", &cookie)).await.status, 200);
    ledger.revoke_key(&admin.id).await.unwrap();
    assert_eq!(client.reply(get("/dashboard", &cookie)).await.status, 303);
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Locked).await;
    let mut client = house.server.client().await;
    for _ in 0..10 {
        assert_eq!(log_in(&mut client, "guess").await, Err(401));
    }
    let reply = client.reply(form("/dashboard/login", &[("secret", SECRET)])).await;
    assert_eq!(reply.status, 429, "{}", reply.body);
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() <= 60);
}

#[tokio::test]
async fn forms_of_other_sites_are_not_taken() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut client = house.server.client().await;
    let keys = page(&mut client, "/dashboard/keys").await;
    let own = token(&keys);
    let new = |token: &str| form("/dashboard/keys", &[("csrf", token), ("name", "app"), ("inference", "on")]);
    let address = house.server.address;
    assert_eq!(client.reply(new("")).await.status, 403);
    assert_eq!(client.reply(new("guess")).await.status, 403);
    assert_eq!(client.reply(with(new(&own), "origin", "https://evil.example")).await.status, 403);
    assert_eq!(client.reply(with(new(&own), "origin", "null")).await.status, 403);
    assert_eq!(client.reply(with(new(&own), "sec-fetch-site", "cross-site")).await.status, 403);
    let answer = json!({"model": MODEL, "prompt": "Hi"});
    assert_eq!(client.post("/dashboard/playground/answer", answer).await.status, 403);
    assert!(house.ledger.as_ref().unwrap().keys().is_empty());
    let made = client.reply(with(new(&own), "origin", &format!("http://{address}"))).await;
    assert_eq!(made.status, 200, "{}", made.body);
    check_page("made", &made);
}

#[tokio::test]
async fn keys_are_made_rotated_and_revoked() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let ledger = house.ledger.as_ref().unwrap();
    let mut client = house.server.client().await;
    let csrf = token(&page(&mut client, "/dashboard/keys").await);
    let mut fields = vec![("csrf", &*csrf), ("name", "app"), ("inference", "on"), ("dollars_per_day", "2.50")];
    let made = client.reply(form("/dashboard/keys", &fields)).await;
    let secret = |reply: &Reply| {
        let (_, rest) = reply.body.split_once("value=\"sk-bantam-").unwrap_or_else(|| panic!("{}", reply.body));
        format!("sk-bantam-{}", rest.split_once('"').unwrap().0)
    };
    let first = secret(&made);
    assert!(made.body.contains("$2.50 a day"), "{}", made.body);
    let key = ledger.authenticate(&first).unwrap();
    assert!(!page(&mut client, "/dashboard/keys").await.body.contains(&first));
    assert!(page(&mut client, "/dashboard").await.body.contains("(0%)"), "the budget is shown");
    let rotated =
        client.reply(form(&format!("/dashboard/keys/{}/rotate", key.id), &[("csrf", &csrf), ("hours", "0")])).await;
    let second = secret(&rotated);
    assert!(ledger.authenticate(&first).is_err() && ledger.authenticate(&second).is_ok());
    let revoked = client.reply(form(&format!("/dashboard/keys/{}/revoke", key.id), &[("csrf", &csrf)])).await;
    assert_eq!((revoked.status.as_u16(), revoked.header("location")), (303, Some("/dashboard/keys")));
    assert!(ledger.authenticate(&second).is_err());
    assert!(page(&mut client, "/dashboard/keys").await.body.contains("revoked 2"));
    fields[3] = ("dollars_per_day", "much");
    let wrong = client.reply(form("/dashboard/keys", &fields)).await;
    assert!(wrong.status == 400 && wrong.body.contains("dollars a day"), "{}", wrong.body);
    let none = client.reply(form("/dashboard/keys/nothing/revoke", &[("csrf", &csrf)])).await;
    assert_eq!(none.status, 404, "{}", none.body);
}

#[tokio::test]
async fn the_playground_asks_two_models_on_record() {
    let mock = mock(&[("Hi", "Hello <b>from</b> there.")]).await;
    let mut config = file(&mock, "");
    // Whoever may administer needs no key for it.
    config.keys.required = Some(true);
    let house = house(config, Door::Open).await;
    let mut client = house.server.client().await;
    let csrf = token(&page(&mut client, "/dashboard/playground").await);
    let fields = [("csrf", &*csrf), ("prompt", "Hi"), ("left", "big"), ("right", "failing"), ("max_tokens", "20")];
    let reply = client.reply(form("/dashboard/playground", &fields)).await;
    check_page("playground", &reply);
    assert!(reply.body.contains("Hello &#60;b&#62;from") && reply.body.contains("there/gpt-big"), "{}", reply.body);
    assert!(reply.body.contains("local/toy"), "{}", reply.body);
    // As the script does it.
    let ask =
        crate::client::post("/dashboard/playground/answer", json!({"model": "big", "prompt": "Hi", "max_tokens": 20}));
    let reply = client.reply(with(ask, "x-csrf-token", &csrf)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let events = parse_events(&reply.body);
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello <b>from</b> there.");
    let id = reply.header("x-bantam-id").unwrap().to_owned();
    let outcome = client.get(&format!("/dashboard/playground/outcome/{id}")).await.json();
    assert_eq!((&outcome["by"], &outcome["status"]), (&json!("there/gpt-big"), &json!(200)), "{outcome}");
    let none = client.get("/dashboard/playground/outcome/0190f4a2-0000-7000-8000-000000000000").await;
    assert_eq!((none.status.as_u16(), &*none.body), (200, "null"));
    let ask =
        crate::client::post("/dashboard/playground/answer", json!({"model": "big", "prompt": "Hi", "max_tokens": 0}));
    assert_eq!(client.reply(with(ask, "x-csrf-token", &csrf)).await.error().2.as_deref(), Some("max_tokens"));
    // The same key is asked of everybody else.
    assert_eq!(client.post("/v1/chat/completions", chat("big", "Hi")).await.status, 401);
}

#[tokio::test]
async fn the_overview_is_told_of_requests_as_they_come() {
    let mock = mock(&[]).await;
    let house = house(file(&mock, ""), Door::Open).await;
    let mut listener = house.server.client().await;
    let mut response = listener.send(Request::get("/dashboard/live").body(Full::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut client = house.server.client().await;
    let reply = client.post("/v1/chat/completions", chat("big", "Hi")).await;
    let id = reply.header("x-bantam-id").unwrap().to_owned();
    let told = async {
        let mut seen = String::new();
        while !seen.contains(&id) {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            seen.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        seen
    };
    let seen = tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap();
    assert!(seen.starts_with("event: now\n") && seen.contains("Requests a minute"), "{seen}");
}

#[tokio::test]
async fn without_a_ledger_there_is_what_can_be() {
    let mock = mock(&[("Hi", "Hello.")]).await;
    let server = start_with(Options { file: file(&mock, ""), ..Options::default() }).await;
    let mut client = server.client().await;
    for path in ["/dashboard", "/dashboard/routes", "/dashboard/playground"] {
        page(&mut client, path).await;
    }
    assert!(page(&mut client, "/dashboard").await.body.contains("keeps no ledger"));
    for path in [
        "/dashboard/requests",
        "/dashboard/requests.csv",
        "/dashboard/errors",
        "/dashboard/keys",
        "/dashboard/audit",
        "/dashboard/live",
    ] {
        let reply = client.get(path).await;
        assert!(reply.status == 404 && reply.body.contains("keeps no ledger"), "{path}: {}", reply.body);
        check_page(path, &reply);
    }
    let csrf = token(&page(&mut client, "/dashboard/playground").await);
    let fields = [("csrf", &*csrf), ("prompt", "Hi"), ("left", "big"), ("right", "other")];
    let reply = client.reply(form("/dashboard/playground", &fields)).await;
    assert!(reply.body.contains("Hello.") && reply.body.contains("not on record"), "{}", reply.body);
}
