//! The web page: files of this crate (`web/`), which use the REST interface like any other client.

use axum::http::Method;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::routes::Routes;

/// Nothing from elsewhere is loaded, run or embedded, and nothing is sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($path:literal: $content_type:literal = $file:literal;)*) => {
        &[$(($path, $content_type, include_str!(concat!("../web/", $file)))),*]
    };
}

/// Path, content type, content.
const FILES: &[(&str, &str, &str)] = files! {
    "/": "text/html; charset=utf-8" = "index.html";
    "/style.css": "text/css; charset=utf-8" = "style.css";
    "/accounts.js": "text/javascript; charset=utf-8" = "accounts.js";
    "/app.js": "text/javascript; charset=utf-8" = "app.js";
    "/api.js": "text/javascript; charset=utf-8" = "api.js";
    "/checks.js": "text/javascript; charset=utf-8" = "checks.js";
    "/dialogs.js": "text/javascript; charset=utf-8" = "dialogs.js";
    "/dom.js": "text/javascript; charset=utf-8" = "dom.js";
    "/rest.html": "text/html; charset=utf-8" = "rest.html";
    "/rest.js": "text/javascript; charset=utf-8" = "rest.js";
    "/sign-in.js": "text/javascript; charset=utf-8" = "sign-in.js";
    "/snapshots.js": "text/javascript; charset=utf-8" = "snapshots.js";
    "/views.js": "text/javascript; charset=utf-8" = "views.js";
};

/// The routes.
pub(crate) fn routes() -> Routes {
    let routes =
        FILES.iter().fold(Routes::<()>::below(""), |routes, (path, content_type, content)| {
            let headers: [(HeaderName, &str); 5] = [
                (CONTENT_TYPE, content_type),
                (CONTENT_SECURITY_POLICY, POLICY),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (REFERRER_POLICY, "no-referrer"),
                // Another version of the daemon has another page.
                (CACHE_CONTROL, "no-cache"),
            ];
            // The form to sign in is one of them.
            routes.everybody(Method::GET, path, async move || (headers, *content))
        });
    routes.with_state(())
}
