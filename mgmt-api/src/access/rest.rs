//! Signing in, users, tokens and the audit log over REST.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use job_engine::{AccountChange, Engine, Role, SecretHash};
use schemars::JsonSchema;
use serde::Deserialize;

use super::guard::{Acts, unauthorized};
use super::password::{acceptable, hash};
use super::session::{LIFE, recognize, secret};
use super::{Access, Identity, Peer, TOKEN_PREFIX, Unknown, Via, cookie, set_cookie};
use crate::api;
use crate::rest::{PREFIX, answer, list, no_such_method, nothing, parse};
use crate::routes::Routes;
use crate::service::{Refusal, Result, ServiceError};

type Shared = State<Arc<Access>>;

/// The routes.
#[must_use]
pub fn routes(access: Arc<Access>) -> Routes {
    use Role::{Administrator, Viewer};
    Routes::below(PREFIX)
        .everybody(Method::POST, "/session", sign_in)
        .get(Viewer, "/session", signed_in)
        .delete(Viewer, "/session", sign_out)
        .put(Viewer, "/session/password", change_password)
        .get(Administrator, "/users", users)
        .post(Administrator, "/users", create_user)
        .get(Administrator, "/users/{user}", show_user)
        .patch(Administrator, "/users/{user}", change_user)
        .delete(Administrator, "/users/{user}", delete_user)
        .get(Administrator, "/tokens", tokens)
        .post(Administrator, "/tokens", create_token)
        .get(Administrator, "/tokens/{token}", show_token)
        .delete(Administrator, "/tokens/{token}", delete_token)
        .get(Administrator, "/audit", audit)
        .other_methods(no_such_method)
        .with_state(access)
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Refusal::Invalid, message)
}

fn internal(reason: &impl ToString) -> ServiceError {
    tracing::error!(reason = reason.to_string(), "no secret can be made");
    ServiceError::new(Refusal::Internal, "no secret can be made; the log says why")
}

/// The hash of a new password. Takes its time.
fn new_password(password: &api::Secret) -> Result<SecretHash> {
    acceptable(&password.0).map_err(invalid)?;
    hash(&password.0).map_err(|error| internal(&error))
}

fn told(mut response: Response, acts: Acts) -> Response {
    response.extensions_mut().insert(acts);
    response
}

async fn sign_in(
    State(access): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: api::SignIn = match parse(&headers, &body) {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    if !peer.is_private() {
        let message = "passwords are taken over TLS and on this machine only";
        return ServiceError::new(Refusal::Invalid, message).into_response();
    }
    let user = match access.password(peer.ip(), &request.user, &request.password.0).await {
        Ok(user) => user,
        Err(unknown) => {
            let user = match &unknown {
                Unknown::Wrong(user) => user.clone(),
                Unknown::Nothing | Unknown::Limited(_) | Unknown::Busy => None,
            };
            // Those that are told to wait would fill the log.
            let acts = user.is_none().then(Vec::new);
            let response = unauthorized(&unknown, None);
            return told(response, Acts { acts, user, detail: Some("sign-in".to_owned()) });
        }
    };
    let begun = access.sessions.begin(&user, Instant::now());
    let cookie = begun.map(|secret| set_cookie(&peer, &secret, LIFE));
    let Ok(Ok(cookie)) = cookie.map(HeaderValue::try_from) else {
        return internal(&"there is no randomness").into_response();
    };
    let identity = Identity::user(&user, Via::Session);
    let response = ([(SET_COOKIE, cookie)], Json(shown(&identity))).into_response();
    let (user, detail) = (Some(user.name.clone()), Some("sign-in".to_owned()));
    told(response, Acts { acts: None, user, detail })
}

fn shown(identity: &Identity) -> api::SignedIn {
    let Identity { name, role, via } = identity.clone();
    api::SignedIn { user: name, role, via: via.name().to_owned() }
}

async fn signed_in(Extension(identity): Extension<Identity>) -> Response {
    Json(shown(&identity)).into_response()
}

async fn sign_out(
    State(access): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Some(secret) = cookie(&headers) {
        access.sessions.end(secret);
    }
    let gone = set_cookie(&peer, "", Duration::ZERO);
    let gone = HeaderValue::try_from(gone).unwrap_or_else(|_| HeaderValue::from_static(""));
    (StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response()
}

async fn change_password(
    State(access): Shared,
    Extension(peer): Extension<Peer>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: api::ChangePassword = match parse(&headers, &body) {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    let (Some(name), Via::Password | Via::Session | Via::Certificate) =
        (identity.name, identity.via)
    else {
        return invalid("whoever asks has no password of their own").into_response();
    };
    // A session that somebody left open is not enough.
    if let Err(unknown) = access.password(peer.ip(), &name, &request.current.0).await {
        return unauthorized(&unknown, None);
    }
    nothing(access, move |access| {
        let password = new_password(&request.new)?;
        Ok(access.engine.change_accounts(AccountChange::SetPassword { name, password })?)
    })
    .await
}

impl Access {
    fn user(&self, name: &str) -> Result<api::User> {
        user(&self.engine, name)
    }

    fn change(&self, change: AccountChange) -> Result<()> {
        let missing: Option<(String, Names)> = match &change {
            AccountChange::SetPassword { name, .. }
            | AccountChange::SetRole { name, .. }
            | AccountChange::DeleteUser { name } => Some((name.clone(), user_names)),
            AccountChange::DeleteToken { name } => Some((name.clone(), token_names)),
            AccountChange::CreateUser { .. } | AccountChange::CreateToken { .. } => None,
        };
        self.engine.change_accounts(change).map_err(|error| match missing {
            Some((name, names)) => ServiceError::from(error).or(&name, || names(&self.engine)),
            None => error.into(),
        })?;
        self.administrator.notify_waiters();
        Ok(())
    }
}

fn view(user: &job_engine::User) -> api::User {
    let job_engine::User { name, role, created, .. } = user.clone();
    api::User { name, role, created }
}

fn view_token(token: &job_engine::Token, now: Timestamp) -> api::Token {
    let expired = token.is_expired(now);
    let job_engine::Token { name, role, created, expires, .. } = token.clone();
    api::Token { name, role, created, expires, expired }
}

/// The names that there are.
type Names = fn(&Engine) -> Vec<String>;

fn user_names(engine: &Engine) -> Vec<String> {
    engine.users().iter().map(|user| user.name.clone()).collect()
}

fn token_names(engine: &Engine) -> Vec<String> {
    engine.tokens().iter().map(|token| token.name.clone()).collect()
}

/// A user, by name.
pub(crate) fn user(engine: &Engine, name: &str) -> Result<api::User> {
    let missing = || ServiceError::new(Refusal::NotFound, format!("there is no user `{name}`"));
    let found = engine.user(name).map(|user| view(&user));
    found.ok_or_else(|| missing().or(name, || user_names(engine)))
}

/// A token, by name.
pub(crate) fn token(engine: &Engine, name: &str) -> Result<api::Token> {
    let missing = || ServiceError::new(Refusal::NotFound, format!("there is no token `{name}`"));
    let found = engine.tokens().into_iter().find(|token| token.name == name);
    let now = engine.config().clock.now();
    let found = found.map(|token| view_token(&token, now));
    found.ok_or_else(|| missing().or(name, || token_names(engine)))
}

async fn show_user(State(access): Shared, Path(name): Path<String>) -> Response {
    answer(access, StatusCode::OK, move |access| user(&access.engine, &name)).await
}

async fn show_token(State(access): Shared, Path(name): Path<String>) -> Response {
    answer(access, StatusCode::OK, move |access| token(&access.engine, &name)).await
}

async fn users(State(access): Shared, uri: Uri) -> Response {
    list(access, uri, &[], |access| {
        Ok(access.engine.users().iter().map(|user| view(user)).collect::<Vec<_>>())
    })
    .await
}

async fn create_user(State(access): Shared, headers: HeaderMap, body: Bytes) -> Response {
    answer(access, StatusCode::CREATED, move |access| {
        let api::CreateUser { name, role, password } = parse(&headers, &body)?;
        let password = new_password(&password)?;
        access.change(AccountChange::CreateUser { name: name.clone(), role, password })?;
        access.user(&name)
    })
    .await
}

async fn change_user(
    State(access): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(access, StatusCode::OK, move |access| {
        let api::ChangeUser { role, password } = parse(&headers, &body)?;
        access.user(&name)?;
        let password = password.map(|password| new_password(&password)).transpose()?;
        if let Some(role) = role {
            access.change(AccountChange::SetRole { name: name.clone(), role })?;
        }
        if let Some(password) = password {
            access.change(AccountChange::SetPassword { name: name.clone(), password })?;
        }
        access.user(&name)
    })
    .await
}

async fn delete_user(State(access): Shared, Path(name): Path<String>) -> Response {
    nothing(access, move |access| access.change(AccountChange::DeleteUser { name })).await
}

async fn tokens(State(access): Shared, uri: Uri) -> Response {
    list(access, uri, &[], |access| {
        Ok(access.engine.tokens().iter().map(|it| view_token(it, access.now())).collect::<Vec<_>>())
    })
    .await
}

async fn create_token(State(access): Shared, headers: HeaderMap, body: Bytes) -> Response {
    answer(access, StatusCode::CREATED, move |access| {
        let api::CreateToken { name, role, expires } = parse(&headers, &body)?;
        let shown = secret().map_err(|error| internal(&error))?;
        let shown = api::Secret(format!("{TOKEN_PREFIX}{shown}"));
        let secret = SecretHash(recognize(&shown.0));
        access.change(AccountChange::CreateToken { name: name.clone(), role, secret, expires })?;
        let made = access.engine.tokens().into_iter().find(|token| token.name == name);
        let made = made.ok_or_else(|| {
            ServiceError::new(Refusal::Conflict, format!("token `{name}` is gone already"))
        })?;
        Ok(api::NewToken { token: view_token(&made, access.now()), secret: shown })
    })
    .await
}

async fn delete_token(State(access): Shared, Path(name): Path<String>) -> Response {
    nothing(access, move |access| access.change(AccountChange::DeleteToken { name })).await
}

/// `?limit=`: so many of the newest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    #[serde(default = "Limit::usual")]
    limit: usize,
}

impl Limit {
    const MOST: usize = 10_000;

    const fn usual() -> usize {
        100
    }
}

async fn audit(
    State(access): Shared,
    limit: std::result::Result<Query<Limit>, QueryRejection>,
) -> Response {
    let limit = match limit {
        Ok(Query(Limit { limit })) => limit.min(Limit::MOST),
        Err(error) => return invalid(error.body_text()).into_response(),
    };
    answer(access, StatusCode::OK, move |access| {
        access.audit.newest(limit).map_err(|error| {
            let message = format!("the audit log cannot be read: {error}");
            ServiceError::new(Refusal::Unavailable, message)
        })
    })
    .await
}
