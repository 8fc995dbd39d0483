//! Enumerations that are open: what is left of each until its client comes for it.
//!
//! Each holds its whole answer, so there are bounds: for one client, for all of them, and for the
//! memory that they take. Whoever opens one more loses the one of theirs that has been idle for the
//! longest: clients that are gone, or never close what they open, keep nobody out.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::fault::{Fault, Status};

/// Enumerations that are open.
const MAX_OPEN: usize = 64;
/// Those of one client, that is a user.
const MAX_OF_ONE: usize = 16;
/// What is left of all of them, in bytes.
const MAX_BYTES: usize = if cfg!(test) { 3 << 20 } else { 256 << 20 };

/// What is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Instances,
    Paths,
    /// Elements of WS-Management.
    Items,
}

/// An enumeration that is not at its end.
#[derive(Debug)]
pub(crate) struct Enumeration {
    kind: Kind,
    namespace: &'static str,
    client: String,
    /// Written already: an enumeration shows what was there when it was opened.
    pub(crate) rest: VecDeque<String>,
    timeout: Duration,
}

impl Enumeration {
    /// `timeout` is counted from each part on.
    pub(crate) fn new(
        kind: Kind,
        namespace: &'static str,
        client: &str,
        rest: VecDeque<String>,
        timeout: Duration,
    ) -> Self {
        Self { kind, namespace, client: client.to_owned(), rest, timeout }
    }
}

/// One that waits.
#[derive(Debug)]
struct Waiting {
    enumeration: Enumeration,
    bytes: usize,
    expires: Instant,
    /// Higher is later.
    used: u64,
}

/// The open enumerations.
#[derive(Debug, Default)]
pub(crate) struct Enumerations {
    open: HashMap<String, Waiting>,
    uses: u64,
}

impl Enumerations {
    /// Takes one out, to go on with it; of this namespace, if the client says which.
    pub(crate) fn take(
        &mut self,
        context: &str,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<Enumeration, Fault> {
        self.take_at(Instant::now(), context, kind, namespace)
    }

    /// Keeps one until its next part. Others may be closed for it.
    pub(crate) fn keep(&mut self, context: String, enumeration: Enumeration) {
        self.keep_at(Instant::now(), context, enumeration);
    }

    pub(crate) fn close(&mut self, context: &str) -> Result<(), Fault> {
        self.expire(Instant::now());
        self.open.remove(context).map(|_| ()).ok_or_else(unknown)
    }

    fn take_at(
        &mut self,
        now: Instant,
        context: &str,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<Enumeration, Fault> {
        self.expire(now);
        let own = self.open.get(context).map(|it| &it.enumeration);
        let fits = own
            .is_some_and(|own| own.kind == kind && namespace.is_none_or(|it| it == own.namespace));
        let taken = if fits { self.open.remove(context) } else { None };
        taken.map(|it| it.enumeration).ok_or_else(unknown)
    }

    fn keep_at(&mut self, now: Instant, context: String, enumeration: Enumeration) {
        self.expire(now);
        let bytes = enumeration.rest.iter().map(String::len).sum();
        self.make_room(&enumeration.client, bytes);
        self.uses += 1;
        let expires = now + enumeration.timeout;
        self.open.insert(context, Waiting { enumeration, bytes, expires, used: self.uses });
    }

    fn expire(&mut self, now: Instant) {
        self.open.retain(|_, waiting| waiting.expires > now);
    }

    fn count(&self, client: &str) -> usize {
        self.open.values().filter(|it| it.enumeration.client == client).count()
    }

    fn make_room(&mut self, client: &str, bytes: usize) {
        while self.count(client) >= MAX_OF_ONE {
            self.close_oldest_of(client);
        }
        let held = |all: &Self| all.open.values().map(|it| it.bytes).sum::<usize>();
        while self.open.len() >= MAX_OPEN || held(self).saturating_add(bytes) > MAX_BYTES {
            // Who has the most open can do without one best.
            let most = self.open.values().map(|it| &it.enumeration.client);
            let Some(most) = most.max_by_key(|client| self.count(client)).cloned() else { return };
            self.close_oldest_of(&most);
        }
    }

    fn close_oldest_of(&mut self, client: &str) {
        let own = self.open.iter().filter(|(_, it)| it.enumeration.client == client);
        let oldest = own.min_by_key(|(_, it)| it.used).map(|(context, _)| context.clone());
        if let Some(context) = oldest {
            tracing::debug!(client, context, "an enumeration gives way to a newer one");
            self.open.remove(&context);
        }
    }
}

fn unknown() -> Fault {
    let text = "there is no such enumeration, or it is over";
    Fault::new(Status::InvalidEnumerationContext, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Bench {
        all: Enumerations,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { all: Enumerations::default(), now: Instant::now() }
        }

        fn open_with(&mut self, client: &str, name: &str, timeout: Duration, bytes: usize) {
            let rest = VecDeque::from([" ".repeat(bytes)]);
            let enumeration = Enumeration::new(Kind::Paths, "n", client, rest, timeout);
            self.all.keep_at(self.now, name.to_owned(), enumeration);
        }

        fn open(&mut self, client: &str, name: &str) {
            self.open_with(client, name, MINUTE, 1);
        }

        /// Pulls, and leaves it open; whether it was.
        fn pull(&mut self, name: &str) -> bool {
            let taken = self.all.take_at(self.now, name, Kind::Paths, None);
            taken.map(|it| self.all.keep_at(self.now, name.to_owned(), it)).is_ok()
        }
    }

    #[test]
    fn one_more_closes_the_one_of_the_same_client_that_has_been_idle_for_the_longest() {
        let mut bench = Bench::new();
        bench.open("other", "of another");
        for number in 0..MAX_OF_ONE {
            bench.open("me", &number.to_string());
        }
        assert!(bench.pull("0"), "now 1 is the oldest");
        bench.open("me", "one more");
        assert!(!bench.pull("1"));
        for open in ["of another", "0", "2", "one more"] {
            assert!(bench.pull(open), "{open}");
        }
    }

    #[test]
    fn a_client_that_opens_too_many_takes_no_place_of_those_that_have_few() {
        let mut bench = Bench::new();
        bench.open("patient", "few");
        for client in 0..8 {
            for number in 0..MAX_OF_ONE {
                bench.open(&format!("greedy {client}"), &format!("{client}/{number}"));
            }
        }
        assert_eq!(bench.all.open.len(), MAX_OPEN);
        assert!(bench.pull("few"));
        assert!(bench.pull("7/15"));
    }

    #[test]
    fn an_enumeration_ends_as_long_after_its_last_part_as_its_client_wanted() {
        let mut bench = Bench::new();
        bench.open_with("me", "short", Duration::from_secs(5), 1);
        bench.open_with("me", "long", 10 * MINUTE, 1);
        bench.now += Duration::from_secs(4);
        assert!(bench.pull("short"));
        bench.now += Duration::from_secs(4);
        assert!(bench.pull("short"), "counted anew");
        bench.now += Duration::from_secs(5);
        assert!(!bench.pull("short"));
        bench.now += 9 * MINUTE;
        assert!(bench.pull("long"));
    }

    #[test]
    fn memory_has_a_bound_for_all_of_them() {
        let mut bench = Bench::new();
        for number in 0..5 {
            bench.open_with("me", &number.to_string(), MINUTE, MAX_BYTES / 3);
        }
        let open = (0..5).filter(|number| bench.pull(&number.to_string())).count();
        assert_eq!(open, 3);
        bench.open_with("me", "too large for company", MINUTE, MAX_BYTES + 1);
        assert!(bench.pull("too large for company"));
        assert_eq!(bench.all.open.len(), 1);
    }
}
