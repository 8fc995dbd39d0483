//! Lists: what is wanted of them (`?state=Running`), so many at a time (`?limit=`, `?cursor=`).
//!
//! A page is a JSON array like the whole list; the header `Link` with `rel="next"` says where the
//! next one is. A cursor is the key of the last element that was seen, so elements that come and go
//! meanwhile move none of the others from one page to the next.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;

use super::run;
use crate::api;
use crate::service::{JobRow, Refusal, Result, ServiceError};

/// An element of a list.
pub(crate) trait Listed: Serialize + Send + 'static {
    /// Parameters by which the list can be narrowed.
    const FILTERS: &'static [&'static str];
    /// What it is found by again. Unique, and lists are in its order.
    fn key(&self) -> String;
    /// The value of a parameter; none if it has none.
    fn field(&self, filter: &str) -> Option<String>;
    /// Its JSON.
    fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }
}

macro_rules! listed {
    ($($kind:ty: |$it:ident| $key:expr, { $($filter:literal: $value:expr),* $(,)? }
        $(, $write:ident)?;)*) => {$(
        impl Listed for $kind {
            const FILTERS: &'static [&'static str] = &[$($filter),*];
            fn key(&self) -> String {
                let $it = self;
                $key
            }
            fn field(&self, filter: &str) -> Option<String> {
                match filter {
                    $($filter => {
                        let $it = self;
                        $value
                    })*
                    _ => None,
                }
            }
            $(fn $write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
                Self::$write(self, out)
            })?
        }
    )*};
}

fn is(value: bool) -> Option<String> {
    Some(value.to_string())
}

listed! {
    api::Disk: |it| it.id.clone(), {
        "name": Some(it.name.clone()),
        "pool": Some(it.pool.clone()),
        "exposed": is(!it.mappings.is_empty()),
    };
    api::Snapshot: |it| it.id.clone(), {
        "name": Some(it.name.clone()),
        "group": Some(it.group.clone()),
    };
    api::Target: |it| it.name.clone(), { "alias": Some(it.alias.clone()) };
    api::Session: |it| format!("{:05}", it.tsih), {
        "target": it.target.clone(),
        "initiator": Some(it.initiator.clone()),
    };
    JobRow: |it| it.0.id.to_string(), {
        "kind": Some(it.0.kind.word().to_owned()),
        "state": Some(it.0.state.name().to_owned()),
        "ended": is(it.0.state.is_terminal()),
        "disk": Some(it.0.kind.disk().to_string()),
        "owner": Some(it.0.owner.clone()),
    }, write;
    api::Pool: |it| it.id.clone(), {};
    api::Setting: |it| it.key.clone(), {};
    api::PortalGroup: |it| format!("{:05}", it.tag), {};
    api::Limit: |it| {
        let disk = it.disk.as_ref().map(|disk| format!("disk/{disk}"));
        let initiator = it.initiator.as_ref().map(|name| format!("initiator/{name}"));
        disk.or(initiator).unwrap_or_default()
    }, {};
    api::ChapAccount: |it| it.user.clone(), {};
    api::User: |it| it.name.clone(), { "role": Some(it.role.name().to_owned()) };
    api::Token: |it| it.name.clone(), {
        "role": Some(it.role.name().to_owned()),
        "expired": is(it.expired),
    };
}

/// What is wanted of a list.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Names and values.
    pub(crate) filters: Vec<(String, String)>,
    pub(crate) limit: Option<usize>,
    /// The key of the last element before.
    pub(crate) after: Option<String>,
}

impl Wanted {
    /// The value that an element must have.
    pub(crate) fn value(&self, filter: &str) -> Option<&str> {
        self.filters.iter().find(|(own, _)| own == filter).map(|(_, value)| value.as_str())
    }

    /// Behind which element it begins, and how many are looked at: one more than are wanted, which
    /// says whether there is another page.
    pub(crate) fn range<K: FromStr>(&self) -> (Option<K>, usize) {
        let limit = self.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        match self.after.as_deref().map(str::parse) {
            Some(Ok(after)) => (Some(after), limit),
            // No element has had such a cursor: whoever makes the page looks at all.
            Some(Err(_)) => (None, usize::MAX),
            None => (None, limit),
        }
    }
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Refusal::Invalid, message)
}

fn wanted<T: Listed>(uri: &Uri, others: &[&str]) -> Result<Wanted> {
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| invalid(error.body_text()))?;
    let mut wanted = Wanted::default();
    for (name, value) in given {
        match name.as_str() {
            "limit" if wanted.limit.is_none() => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                let why = || invalid(format!("limit={value}: a number above 0 is wanted"));
                wanted.limit = Some(limit.ok_or_else(why)?);
            }
            "cursor" if wanted.after.is_none() => {
                let key = BASE64_URL_SAFE_NO_PAD.decode(&value).ok();
                let key = key.and_then(|key| String::from_utf8(key).ok());
                let why = || invalid("cursor: take it from the header Link of the page before");
                wanted.after = Some(key.ok_or_else(why)?);
            }
            known if others.contains(&known) => {}
            known
                if T::FILTERS.contains(&known)
                    && wanted.filters.iter().all(|(other, _)| *other != name) =>
            {
                wanted.filters.push((name, value));
            }
            "limit" | "cursor" => return Err(invalid(format!("{name} is given twice"))),
            known if T::FILTERS.contains(&known) => {
                return Err(invalid(format!("{name} is given twice")));
            }
            _ => {
                let known: Vec<_> = T::FILTERS.iter().chain(others).copied().collect();
                let mut known = known.join(", ");
                known.push_str(if known.is_empty() { "limit, cursor" } else { ", limit, cursor" });
                return Err(invalid(format!("there is no parameter {name}; there are: {known}")));
            }
        }
    }
    Ok(wanted)
}

fn page<T: Listed>(mut all: Vec<T>, wanted: &Wanted) -> (Vec<T>, Option<String>) {
    for (name, value) in &wanted.filters {
        all.retain(|it| it.field(name).as_deref() == Some(value));
    }
    if wanted.limit.is_none() && wanted.after.is_none() {
        return (all, None);
    }
    all.sort_by_cached_key(Listed::key);
    if let Some(after) = &wanted.after {
        all.retain(|it| it.key() > *after);
    }
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let more = all.len() > limit;
    all.truncate(limit);
    let last = all.last().filter(|_| more).map(Listed::key);
    (all, last)
}

fn array<T: Listed>(values: &[T]) -> serde_json::Result<Vec<u8>> {
    let mut text = vec![b'['];
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        value.write(&mut text)?;
    }
    text.push(b']');
    Ok(text)
}

/// Where the next page is.
fn next(uri: &Uri, last: &str) -> Option<HeaderValue> {
    let mut link = format!("<{}?", uri.path());
    let kept = uri.query().unwrap_or_default().split('&');
    for parameter in kept.filter(|it| !it.is_empty() && !it.starts_with("cursor=")) {
        let _ = write!(link, "{parameter}&");
    }
    let _ = write!(link, "cursor={}>; rel=\"next\"", BASE64_URL_SAFE_NO_PAD.encode(last));
    HeaderValue::try_from(link).ok()
}

/// A list, as far as it is wanted. `others` are parameters that `function` looks at itself.
pub(crate) async fn list<S, T, F>(
    state: Arc<S>,
    uri: Uri,
    others: &'static [&'static str],
    function: F,
) -> Response
where
    S: Send + Sync + 'static,
    T: Listed,
    F: FnOnce(&S) -> Result<Vec<T>> + Send + 'static,
{
    narrowed(state, uri, others, |state, _| function(state)).await
}

/// The same, by a function that may leave out what is not wanted, and what is behind one element
/// more than are.
pub(crate) async fn narrowed<S, T, F>(
    state: Arc<S>,
    uri: Uri,
    others: &'static [&'static str],
    function: F,
) -> Response
where
    S: Send + Sync + 'static,
    T: Listed,
    F: FnOnce(&S, &Wanted) -> Result<Vec<T>> + Send + 'static,
{
    let asked = uri.clone();
    let found = run(state, move |state| {
        let wanted = wanted::<T>(&asked, others)?;
        let (values, last) = page(function(state, &wanted)?, &wanted);
        // Here, and not on a thread that serves initiators: thousands of elements take a while.
        let text = array(&values)
            .map_err(|error| ServiceError::new(Refusal::Internal, error.to_string()))?;
        Ok((text, last))
    });
    match found.await {
        Ok((text, last)) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            let mut response = (StatusCode::OK, kind, text).into_response();
            if let Some(link) = last.and_then(|last| next(&uri, &last)) {
                response.headers_mut().insert(header::LINK, link);
            }
            response
        }
        Err(error) => error.into_response(),
    }
}
