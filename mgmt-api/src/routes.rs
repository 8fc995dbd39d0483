//! Who may do what: every route is made together with whom it is for, so none can be forgotten.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, any, on};
use job_engine::Role;

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Whoever reaches the daemon.
    Everybody,
    /// Those that have shown who they are and have this role, or one that may do more.
    AtLeast(Role),
}

impl Who {
    /// `everybody`, `viewer`, `operator`, `administrator`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::AtLeast(role) => role.name(),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for what varies.
    pub path: String,
    /// Whom it is for.
    pub who: Who,
}

/// The table of all routes.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rules: Vec<Rule>,
}

impl Table {
    /// All rows, in the order in which they were made.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whom a request to a route is for. A method that the route does not have is for those that
    /// may use another one of it; what is not in the table is for administrators.
    #[must_use]
    pub fn who(&self, method: &Method, path: &str) -> Who {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let of_path = || self.rules.iter().filter(|rule| rule.path == path);
        let exact = of_path().find(|rule| rule.method == *method);
        let any = || of_path().map(|rule| rule.who).min();
        exact.map(|rule| rule.who).or_else(any).unwrap_or(Who::AtLeast(Role::Administrator))
    }
}

/// Routes, and whom they are for.
#[derive(Debug)]
pub struct Routes<S = ()> {
    prefix: &'static str,
    router: Router<S>,
    table: Table,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet; `prefix` stands before all paths.
    #[must_use]
    pub fn below(prefix: &'static str) -> Self {
        Self { prefix, router: Router::new(), table: Table::default() }
    }

    fn on<H, T>(mut self, method: Method, who: Who, path: &str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let path = format!("{}{path}", self.prefix);
        // Those that are used below have a filter.
        if let Ok(filter) = MethodFilter::try_from(method.clone()) {
            self.router = self.router.route(&path, on(filter, handler));
            self.table.rules.push(Rule { method, path, who });
        }
        self
    }

    /// `GET` (and `HEAD`) for those that have a role.
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, role: Role, path: &str, handler: H) -> Self {
        self.on(Method::GET, Who::AtLeast(role), path, handler)
    }

    /// `POST` for those that have a role.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, role: Role, path: &str, handler: H) -> Self {
        self.on(Method::POST, Who::AtLeast(role), path, handler)
    }

    /// `PUT` for those that have a role.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, role: Role, path: &str, handler: H) -> Self {
        self.on(Method::PUT, Who::AtLeast(role), path, handler)
    }

    /// `PATCH` for those that have a role.
    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, role: Role, path: &str, handler: H) -> Self {
        self.on(Method::PATCH, Who::AtLeast(role), path, handler)
    }

    /// `DELETE` for those that have a role.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, role: Role, path: &str, handler: H) -> Self {
        self.on(Method::DELETE, Who::AtLeast(role), path, handler)
    }

    /// A method for whoever reaches the daemon.
    #[must_use]
    pub fn everybody<H: Handler<T, S>, T: 'static>(
        self,
        method: Method,
        path: &str,
        handler: H,
    ) -> Self {
        self.on(method, Who::Everybody, path, handler)
    }

    /// One method for those that have a role, and what answers the others.
    #[must_use]
    pub fn any<H: Handler<T, S>, T: 'static>(
        mut self,
        method: Method,
        role: Role,
        path: &str,
        handler: H,
    ) -> Self {
        let path = format!("{}{path}", self.prefix);
        self.router = self.router.route(&path, any(handler));
        self.table.rules.push(Rule { method, path, who: Who::AtLeast(role) });
        self
    }

    /// What to call for other methods.
    #[must_use]
    pub fn other_methods<H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        self.router = self.router.method_not_allowed_fallback(handler);
        self
    }

    /// With the state that the handlers need.
    #[must_use]
    pub fn with_state(self, state: S) -> Routes {
        Routes { prefix: "", router: self.router.with_state(state), table: self.table }
    }
}

impl Routes {
    /// Changes the router, not its routes.
    #[must_use]
    pub fn layered(mut self, layer: impl FnOnce(Router) -> Router) -> Self {
        self.router = layer(self.router);
        self
    }

    /// Those of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.table.rules.extend(other.table.rules);
        self
    }

    /// The router and the table.
    pub fn into_parts(self) -> (Router, Table) {
        (self.router, self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_for_administrators() {
        let nothing = || async {};
        let routes = Routes::<()>::below("/x")
            .get(Role::Viewer, "/a/{b}", nothing)
            .delete(Role::Operator, "/a/{b}", nothing)
            .everybody(Method::GET, "/open", nothing);
        let (_, table) = routes.with_state(()).into_parts();
        let who = |method, path: &str| table.who(&method, path);
        assert_eq!(who(Method::GET, "/x/a/{b}"), Who::AtLeast(Role::Viewer));
        assert_eq!(who(Method::HEAD, "/x/a/{b}"), Who::AtLeast(Role::Viewer));
        assert_eq!(who(Method::DELETE, "/x/a/{b}"), Who::AtLeast(Role::Operator));
        assert_eq!(who(Method::PUT, "/x/a/{b}"), Who::AtLeast(Role::Viewer), "405 is no secret");
        assert_eq!(who(Method::GET, "/x/open"), Who::Everybody);
        assert_eq!(who(Method::GET, "/x/other"), Who::AtLeast(Role::Administrator));
    }
}
