//! Requests through the whole router, from all sorts of people.

mod contract;
mod events;
mod table;

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use job_engine::{AccountChange, Clock as _, EngineConfig, ManualClock, SecretHash};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::*;
use crate::api;
use crate::cim::{Cimom, Indications};
use crate::routes::Table;
use crate::server;
use crate::service::{self, AccessStateRefusal, Host, Service, SessionRequest, TraceRefusal};

/// A data path without anybody.
struct Nobody;

impl Host for Nobody {
    fn session_parameters(&self) -> api::SessionParameters {
        unreachable!()
    }
    fn sessions(&self) -> Vec<api::Session> {
        Vec::new()
    }
    fn totals(&self) -> service::TotalCounters {
        service::TotalCounters::default()
    }
    fn senses(&self) -> [u64; 16] {
        [0; 16]
    }
    fn pinned_bytes(&self) -> u64 {
        0
    }
    fn units(&self) -> Vec<service::UnitCounters> {
        Vec::new()
    }
    fn session(&self, _: u16) -> Option<api::SessionDetail> {
        None
    }
    fn ask(&self, _: u16, _: SessionRequest) -> bool {
        false
    }
    fn trace(&self, _: u16) -> Result<service::Trace, TraceRefusal> {
        Err(TraceRefusal::NoSuchSession)
    }
    fn portals(&self) -> Vec<String> {
        Vec::new()
    }
    fn portal_groups(&self) -> Vec<api::PortalGroup> {
        Vec::new()
    }
    fn set_access_state(
        &self,
        _: u16,
        _: Option<&str>,
        _: Option<api::AccessState>,
    ) -> Result<(), AccessStateRefusal> {
        Ok(())
    }
    fn chap_accounts(&self) -> Vec<api::ChapAccount> {
        Vec::new()
    }
    fn set_chap_account(
        &self,
        user: &str,
        _: &api::SetChapAccount,
    ) -> service::Result<api::ChapAccount> {
        let user = user.to_owned();
        let (targets, initiators) = (None, None);
        Ok(api::ChapAccount { user, targets, initiators, discovery_only: false, configured: false })
    }
    fn delete_chap_account(&self, _: &str, _: bool) -> service::Result<()> {
        Ok(())
    }
    fn limits(&self) -> Vec<(service::LimitOf, api::SetLimit)> {
        Vec::new()
    }
    fn set_limit(&self, _: &service::LimitOf, _: Option<api::SetLimit>) -> service::Result<()> {
        Ok(())
    }
    fn configure(
        &self,
        _: &service::Kept,
        commit: &mut dyn FnMut(service::KeptRecords) -> service::Result<bool>,
    ) -> service::Result<()> {
        commit(service::KeptRecords::default()).map(drop)
    }
    fn settings(&self) -> Vec<api::Setting> {
        Vec::new()
    }
    fn has_access_states(&self) -> bool {
        true
    }
    fn reload_access_states(&self) {}
    fn isns(&self) -> Option<api::Isns> {
        None
    }
    fn state(&self) -> api::NodeState {
        api::NodeState::Serving
    }
    fn drain(&self) {}
    fn resume(&self) -> bool {
        true
    }
}

pub(crate) struct Server {
    directory: TempDir,
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
    access: Arc<Access>,
    router: Router,
    pub(crate) table: Table,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn tcp(address: &str, tls: bool) -> Peer {
    let address: SocketAddr = address.parse().unwrap();
    Peer::Tcp { address, tls, certificate: None }
}

fn loopback() -> Peer {
    tcp("127.0.0.1:1", false)
}

const PASSWORD: &str = "correct horse battery";

impl Server {
    /// Open: without users.
    pub(crate) fn open() -> Self {
        let directory = TempDir::new().unwrap();
        let clock = ManualClock::new(Timestamp::now());
        let mut config = EngineConfig::new(directory.path());
        config.clock = clock.clone();
        let indications = Indications::new("lund".to_owned()).unwrap();
        config.outbox = Some(indications.clone());
        let engine = Engine::open(config).unwrap();
        let host = Arc::new(Nobody);
        let service = Arc::new(Service::new(engine.clone(), host));
        let cimom = Arc::new(Cimom::new(engine.clone(), indications));
        let access = Arc::new(Access::new(engine.clone()).unwrap());
        let (router, table) = server::router(service, cimom, access.clone());
        Self { directory, engine, clock, access, router, table }
    }

    /// With a user and a token for each role, all of the role's name.
    fn closed() -> Self {
        let server = Self::open();
        let hash = password::hash(PASSWORD).unwrap();
        for role in Role::ALL.into_iter().rev() {
            let (name, password) = (role.name().to_owned(), hash.clone());
            server.change(AccountChange::CreateUser { name: name.clone(), role, password });
            let secret = SecretHash(recognize(&token_of(role)));
            server.change(AccountChange::CreateToken { name, role, secret, expires: None });
        }
        server
    }

    fn change(&self, change: AccountChange) {
        self.engine.change_accounts(change).unwrap();
    }

    async fn send(&self, peer: Peer, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        if !parts.headers.contains_key("host") {
            parts.headers.insert("host", "127.0.0.1:5988".parse().unwrap());
        }
        parts.extensions.insert(peer);
        let request = Request::from_parts(parts, body);
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if headers.get("content-type").is_some_and(|it| it == "text/event-stream") {
            // It has no end.
            return Answer { status, headers, text: String::new() };
        }
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        self.send(loopback(), request.body(body).unwrap()).await
    }

    /// The status for a `GET` with this header `Authorization`.
    async fn status(&self, peer: Peer, authorization: &str) -> Answer {
        let request = Request::get("/api/v1/status").header("authorization", authorization);
        self.send(peer, request.body(Body::empty()).unwrap()).await
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join(AUDIT_LOG));
        let text = text.unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn token_of(role: Role) -> String {
    format!("{TOKEN_PREFIX}secret-of-{role}")
}

fn bearer(role: Role) -> String {
    format!("Bearer {}", token_of(role))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn without_an_administrator_this_machine_may_do_everything_and_no_other() {
    let server = Server::open();
    let password = password::hash(PASSWORD).unwrap();
    let (name, role) = ("guest".to_owned(), Role::Viewer);
    server.change(AccountChange::CreateUser { name, role, password });
    let me = server.ask("GET", "/session", &[], &Value::Null).await;
    assert_eq!(me.json(), json!({ "user": null, "role": "administrator", "via": "open" }));
    for far in [tcp("192.0.2.1:1", true), tcp("[2001:db8::1]:1", false)] {
        let request = Request::get("/api/v1/status").body(Body::empty()).unwrap();
        assert_eq!(server.send(far, request).await.status, 401);
    }
    let rebound = Request::get("/api/v1/status").header("host", "evil.example.com");
    let rebound = server.send(loopback(), rebound.body(Body::empty()).unwrap()).await;
    assert_eq!(rebound.status, 403);
    let user = json!({ "name": "root", "role": "administrator", "password": PASSWORD });
    assert_eq!(server.ask("POST", "/users", &[], &user).await.status, 201);
    assert_eq!(server.ask("GET", "/status", &[], &Value::Null).await.status, 401);
    let own = basic("root", PASSWORD);
    assert_eq!(server.status(loopback(), &own).await.status, 200);
}

/// Gives a request up as soon as it is under way, as a client does that is gone.
async fn abandon(server: &Server, request: Request<Body>) {
    let mut request = request;
    request.extensions_mut().insert(loopback());
    request.headers_mut().insert("host", "127.0.0.1:5988".parse().unwrap());
    let mut under_way = Box::pin(server.router.clone().oneshot(request));
    let once = std::future::poll_fn(|context| {
        std::task::Poll::Ready(under_way.as_mut().poll(context).is_ready())
    });
    assert!(!once.await, "it was answered at once: nothing is tried here");
}

#[tokio::test]
async fn what_was_begun_is_done_and_written_down_though_its_client_is_gone() {
    let server = Server::open();
    let target = Request::post("/api/v1/targets").header("content-type", "application/json");
    let target = target.body(Body::from(json!({ "name": "t" }).to_string())).unwrap();
    let call = "<CIM CIMVERSION='2.0' DTDVERSION='2.0'><MESSAGE ID='1' PROTOCOLVERSION='1.0'>\
                <SIMPLEREQ><METHODCALL NAME='CreateiSCSINode'><LOCALINSTANCEPATH>\
                <LOCALNAMESPACEPATH><NAMESPACE NAME='root'/><NAMESPACE NAME='cimv2'/>\
                <NAMESPACE NAME='storage'/><NAMESPACE NAME='iscsitarget'/></LOCALNAMESPACEPATH>\
                <INSTANCENAME CLASSNAME='MSISCSITARGET_iSCSIConfigurationService'>\
                <KEYBINDING NAME='SystemCreationClassName'><KEYVALUE>MSFTSM_ComputerSystem\
                </KEYVALUE></KEYBINDING><KEYBINDING NAME='SystemName'><KEYVALUE>lund</KEYVALUE>\
                </KEYBINDING><KEYBINDING NAME='CreationClassName'><KEYVALUE>\
                MSISCSITARGET_iSCSIConfigurationService</KEYVALUE></KEYBINDING>\
                <KEYBINDING NAME='Name'><KEYVALUE>lund</KEYVALUE></KEYBINDING></INSTANCENAME>\
                </LOCALINSTANCEPATH><PARAMVALUE NAME='Alias'><VALUE>node</VALUE></PARAMVALUE>\
                </METHODCALL></SIMPLEREQ></MESSAGE></CIM>";
    let node = Request::post("/cimom")
        .header("content-type", "application/xml")
        .header("cimoperation", "MethodCall")
        .header("cimmethod", "CreateiSCSINode")
        .header(
            "cimobject",
            "root/cimv2/storage/iscsitarget:MSISCSITARGET_iSCSIConfigurationService",
        )
        .body(Body::from(call))
        .unwrap();
    abandon(&server, target).await;
    abandon(&server, node).await;
    // Longer than anything takes that works.
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.audit().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", server.audit());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut told: Vec<String> = server.audit().iter().map(|it| it["method"].to_string()).collect();
    told.sort();
    assert_eq!(told, ["\"CreateiSCSINode\"", "\"POST\""]);
    assert_eq!(server.engine.targets().len(), 2, "{:?}", server.audit());
    // Whoever stops the daemon waits for them.
    server.access.finished().await;
}

#[tokio::test]
async fn passwords_and_tokens_are_looked_at_and_wrong_ones_are_refused() {
    let server = Server::closed();
    let status = async |value: &str| server.status(loopback(), value).await.status;
    assert_eq!(status(&basic("viewer", PASSWORD)).await, 200);
    assert_eq!(status(&basic("viewer", PASSWORD)).await, 200, "it is remembered");
    assert_eq!(status(&basic("viewer", "correct horse")).await, 401);
    assert_eq!(status(&basic("nobody", PASSWORD)).await, 401);
    assert_eq!(status(&bearer(Role::Viewer)).await, 200);
    for bad in ["Bearer", "Bearer x", "Basic x", "Basic", "Digest x", "", "Basic !!!"] {
        assert_eq!(status(bad).await, 401, "{bad}");
    }
    let denied = server.status(loopback(), "Bearer x").await;
    assert_eq!(denied.header("www-authenticate"), "Bearer realm=\"lund\"");
    // Over a network, nobody between may read along.
    let plain = server.status(tcp("192.0.2.1:1", false), &basic("viewer", PASSWORD)).await;
    assert_eq!(plain.status, 401);
    let tls = server.status(tcp("192.0.2.1:1", true), &basic("viewer", PASSWORD)).await;
    assert_eq!(tls.status, 200);
    // Another password is another one at once, whatever is remembered.
    let (name, password) = ("viewer".to_owned(), password::hash("battery staple").unwrap());
    server.change(AccountChange::SetPassword { name, password });
    assert_eq!(status(&basic("viewer", PASSWORD)).await, 401);
    assert_eq!(status(&basic("viewer", "battery staple")).await, 200);
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let server = Server::closed();
    let secret = SecretHash(recognize("lund_short"));
    let expires = Some(server.clock.now() + Duration::from_secs(60));
    let (name, role) = ("short".to_owned(), Role::Viewer);
    server.change(AccountChange::CreateToken { name, role, secret, expires });
    server.clock.advance(Duration::from_secs(59));
    assert_eq!(server.status(loopback(), "Bearer lund_short").await.status, 200);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.status(loopback(), "Bearer lund_short").await.status, 401);
    let root = bearer(Role::Administrator);
    let list = server.ask("GET", "/tokens", &[("authorization", &root)], &Value::Null).await;
    let expired = |it: &&Value| it["expired"] == true;
    assert_eq!(list.json().as_array().unwrap().iter().filter(expired).count(), 1);
}

#[tokio::test]
async fn whoever_guesses_must_wait_and_others_need_not() {
    let server = Server::closed();
    let far = || tcp("192.0.2.7:1", true);
    // A right one before is remembered, so guesses of others shut nobody out.
    assert_eq!(server.status(far(), &basic("operator", PASSWORD)).await.status, 200);
    for _ in 0..10 {
        assert_eq!(server.status(far(), &basic("administrator", "a guess")).await.status, 401);
    }
    let limited = server.status(far(), &basic("administrator", PASSWORD)).await;
    assert_eq!(limited.status, 429, "right or wrong is not told any more");
    assert!((1..=7).contains(&limited.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(server.status(far(), "Bearer lund_guess").await.status, 429);
    assert_eq!(server.status(far(), &basic("operator", PASSWORD)).await.status, 200);
    let other = server.status(tcp("192.0.2.8:1", true), &basic("administrator", PASSWORD)).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn a_session_is_for_the_page_that_began_it() {
    let server = Server::closed();
    let wrong = json!({ "user": "operator", "password": "wrong horse" });
    assert_eq!(server.ask("POST", "/session", &[], &wrong).await.status, 401);
    let right = json!({ "user": "operator", "password": PASSWORD });
    let begun = server.ask("POST", "/session", &[], &right).await;
    assert_eq!(begun.json(), json!({ "user": "operator", "role": "operator", "via": "session" }));
    let set = begun.header("set-cookie");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(attribute), "{set}");
    }
    let cookie = set.split(';').next().unwrap();
    let me = server.ask("GET", "/session", &[("cookie", cookie)], &Value::Null).await;
    assert_eq!(me.json()["user"], "operator");
    let target = json!({ "name": "t" });
    let post = async |headers: &[(&str, &str)]| {
        let headers = [&[("cookie", cookie)], headers].concat();
        server.ask("POST", "/targets", &headers, &target).await.status
    };
    assert_eq!(post(&[]).await, 403, "a page must say that it is ours");
    assert_eq!(post(&[("origin", "http://evil.example.com")]).await, 403);
    assert_eq!(post(&[("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(post(&[("origin", "http://127.0.0.1:5988")]).await, 201);
    let own = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    assert_eq!(server.ask("DELETE", "/session", &own, &Value::Null).await.status, 204);
    assert_eq!(server.ask("GET", "/session", &own, &Value::Null).await.status, 401);
    // Over TLS it cannot be set or read by others.
    let request = Request::post("/api/v1/session").header("content-type", "application/json");
    let request = request.body(Body::from(right.to_string())).unwrap();
    let begun = server.send(tcp("192.0.2.1:1", true), request).await;
    let set = begun.header("set-cookie");
    assert!(set.starts_with("__Host-lund-session=") && set.ends_with("; Secure"), "{set}");
}

#[tokio::test]
async fn users_change_their_own_password_if_they_know_it() {
    let server = Server::closed();
    let put = async |user: &str, current: &str, new: &str| {
        let own = basic(user, PASSWORD);
        let body = json!({ "current": current, "new": new });
        server.ask("PUT", "/session/password", &[("authorization", &own)], &body).await.status
    };
    assert_eq!(put("viewer", "wrong horse", "battery staple").await, 401);
    assert_eq!(put("viewer", PASSWORD, "short").await, 400);
    assert_eq!(put("viewer", PASSWORD, "battery staple").await, 204);
    assert_eq!(put("viewer", PASSWORD, "battery staple").await, 401);
    let token = bearer(Role::Operator);
    let body = json!({ "current": PASSWORD, "new": "battery staple" });
    let answer = server.ask("PUT", "/session/password", &[("authorization", &token)], &body).await;
    assert_eq!(answer.status, 400, "a token has no password");
}

#[tokio::test]
async fn users_and_tokens_are_made_changed_and_removed() {
    let server = Server::closed();
    let root = bearer(Role::Administrator);
    let ask = async |method: &str, path: &str, body: &Value| {
        server.ask(method, path, &[("authorization", &root)], body).await
    };
    let made = json!({ "name": "eve", "role": "viewer", "password": "0123456789" });
    let answer = ask("POST", "/users", &made).await;
    assert_eq!((answer.status, &answer.json()["role"]), (201, &json!("viewer")));
    assert!(!answer.text.contains("argon") && !answer.text.contains("012345"), "{answer:?}");
    assert_eq!(ask("POST", "/users", &made).await.status, 409);
    let short = json!({ "name": "bob", "role": "viewer", "password": "short" });
    assert!(ask("POST", "/users", &short).await.text.contains("at least 10"));
    let changed = ask("PATCH", "/users/eve", &json!({ "role": "operator" })).await;
    assert_eq!(changed.json()["role"], "operator");
    assert_eq!(ask("PATCH", "/users/nobody", &json!({ "role": "viewer" })).await.status, 404);
    assert_eq!(ask("DELETE", "/users/eve", &Value::Null).await.status, 204);
    assert_eq!(ask("DELETE", "/users/administrator", &Value::Null).await.status, 409);
    let forever = json!({ "name": "ci", "role": "viewer" });
    let answer = ask("POST", "/tokens", &forever).await;
    assert!(answer.status == 400 && answer.text.contains("expires"), "{answer:?}");
    let token = json!({ "name": "ci", "role": "viewer", "expires": null });
    let made = ask("POST", "/tokens", &token).await.json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("lund_") && secret.len() == 48, "{secret}");
    assert_eq!(server.status(loopback(), &format!("Bearer {secret}")).await.status, 200);
    let list = ask("GET", "/tokens", &Value::Null).await.text;
    assert!(list.contains("\"ci\"") && !list.contains(secret), "{list}");
    assert_eq!(ask("DELETE", "/tokens/ci", &Value::Null).await.status, 204);
    assert_eq!(server.status(loopback(), &format!("Bearer {secret}")).await.status, 401);
}

#[tokio::test]
async fn changes_and_refusals_are_written_down_without_secrets() {
    let server = Server::closed();
    let (root, viewer) = (bearer(Role::Administrator), bearer(Role::Viewer));
    let user = json!({ "name": "eve", "role": "viewer", "password": "very secret" });
    server.ask("POST", "/users", &[("authorization", &root)], &user).await;
    server.ask("GET", "/status", &[("authorization", &viewer)], &Value::Null).await;
    server.ask("DELETE", "/disks/d?x=1", &[("authorization", &viewer)], &Value::Null).await;
    server.ask("DELETE", "/disks/d", &[("authorization", &root)], &Value::Null).await;
    let wrong = json!({ "user": "eve", "password": "not so secret" });
    server.ask("POST", "/session", &[], &wrong).await;
    server.status(loopback(), "Bearer lund_stolen").await;
    server.ask("GET", "/status", &[], &Value::Null).await;
    let audit = server.audit();
    let row = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or("-").to_owned();
        let [user, method] = [text("user"), text("method")];
        format!(
            "{user} {} {method} {} {} {}",
            text("via"),
            text("object"),
            text("outcome"),
            text("detail")
        )
    };
    let rows: Vec<String> = audit.iter().map(row).collect();
    assert_eq!(
        rows,
        [
            "administrator token POST /api/v1/users 201 eve",
            "viewer token DELETE /api/v1/disks/d?x=1 403 -",
            "administrator token DELETE /api/v1/disks/d 404 -",
            "eve none POST /api/v1/session 401 sign-in",
            "- none GET /api/v1/status 401 -",
        ]
    );
    assert_eq!(
        (&audit[0]["role"], &audit[0]["address"]),
        (&json!("administrator"), &json!("127.0.0.1"))
    );
    let text = std::fs::read_to_string(server.directory.path().join(AUDIT_LOG)).unwrap();
    assert!(!text.contains("secret") && !text.contains("lund_"), "{text}");
    let read = server.ask("GET", "/audit?limit=2", &[("authorization", &root)], &Value::Null).await;
    assert_eq!(read.json().as_array().unwrap().len(), 2);
    assert_eq!(read.json()[0]["object"], "/api/v1/status", "the newest first");
    let refused = server.ask("GET", "/audit", &[("authorization", &viewer)], &Value::Null).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn the_socket_and_certificates_say_who_it_is() {
    let server = Server::closed();
    let me = async |peer: Peer| {
        let request = Request::get("/api/v1/session").body(Body::empty()).unwrap();
        let answer = server.send(peer, request).await;
        (answer.status == 200).then(|| answer.json())
    };
    let local = |role| Peer::Local { uid: 7, name: Some("ann".to_owned()), role };
    let ann = me(local(Some(Role::Operator))).await.unwrap();
    assert_eq!(ann, json!({ "user": "ann", "role": "operator", "via": "socket" }));
    assert_eq!(me(local(None)).await, None);
    let certificate = |name: &str| Peer::Tcp {
        address: "192.0.2.1:1".parse().unwrap(),
        tls: true,
        certificate: Some(name.to_owned()),
    };
    let viewer = me(certificate("viewer")).await.unwrap();
    assert_eq!(viewer, json!({ "user": "viewer", "role": "viewer", "via": "certificate" }));
    assert_eq!(me(certificate("nobody")).await, None);
}

#[tokio::test]
async fn a_connection_that_nobody_accepted_is_let_in_nowhere() {
    let server = Server::open();
    for path in ["/", "/healthz", "/api/v1/status", "/nothing"] {
        let request = Request::get(path).header("host", "127.0.0.1").body(Body::empty()).unwrap();
        assert_eq!(server.router.clone().oneshot(request).await.unwrap().status(), 403, "{path}");
    }
}
