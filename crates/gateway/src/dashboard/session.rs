//! Who has logged in, kept in a signed cookie.
//!
//! A cookie says on what the session rests (the admin secret, or a key with the scope), until when, and a random name; a MAC under a key of
//! this process covers that and the secret or the key's revision, so that a session ends when either changes or the process does. The names of
//! sessions that were left are kept until they would have ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use bantam_ledger::Timestamp;
use bantam_ledger::keys::{KeyId, Scope};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::app::App;

/// The cookie's name.
pub(super) const COOKIE: &str = "bantam_session";

/// How long a session lasts.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);

/// Tries to log in from one address within [`TRY_WINDOW`].
const TRIES: u32 = 10;
const TRY_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose tries are counted at one time; when there are more, nobody new may try.
const TRIERS: usize = 4096;

/// What stands in a cookie for the admin secret.
const BY_SECRET: &str = "-";

/// What sessions share.
pub(super) struct Sessions {
    key: [u8; 32],
    /// Sessions that were left, and when they would have ended.
    left: Mutex<HashMap<String, u64>>,
    /// Tries to log in, and since when they are counted.
    tries: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

/// A session that stands.
#[derive(Debug)]
pub(super) struct Session {
    /// Its random name.
    pub(super) name: String,
    ends: u64,
}

/// What a session rests on.
pub(super) enum Grounds {
    Secret,
    Key(KeyId),
}

impl Sessions {
    /// Sessions of this process.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self { key: random()?, left: Mutex::default(), tries: Mutex::default() })
    }

    /// The value of the cookie of a new session.
    ///
    /// # Errors
    /// Where the system has no random bytes, or what the session would rest on is gone.
    pub(super) fn open(&self, app: &App, grounds: &Grounds) -> Result<String, String> {
        let who = match grounds {
            Grounds::Secret => BY_SECRET,
            Grounds::Key(id) => id.as_str(),
        };
        let state = state(app, who).ok_or("the key was taken back meanwhile")?;
        let name = URL_SAFE_NO_PAD.encode(random::<16>()?);
        let ends = (now() + LASTS.as_secs()).to_string();
        let mac = self.mac(&["session", who, &ends, &name, &state]);
        Ok(format!("{who}.{ends}.{name}.{mac}"))
    }

    /// The session that a request's cookie stands for.
    pub(super) fn of(&self, app: &App, headers: &HeaderMap) -> Option<Session> {
        let value = cookie(headers)?;
        let mut parts = value.split('.');
        let (who, ends, name, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let expected = self.mac(&["session", who, ends, name, &state(app, who)?]);
        if parts.next().is_some() || !same(&expected, mac) {
            return None;
        }
        let ends: u64 = ends.parse().ok()?;
        let stands = now() < ends && !locked(&self.left).contains_key(name);
        stands.then(|| Session { name: name.to_owned(), ends })
    }

    /// Ends a session.
    pub(super) fn leave(&self, session: Session) {
        let mut left = locked(&self.left);
        let now = now();
        left.retain(|_, ends| *ends > now);
        left.insert(session.name, session.ends);
    }

    /// What forms of a session have to bring. Who needs no session has a token, too: a page of another site cannot read it.
    pub(super) fn csrf(&self, session: Option<&Session>) -> String {
        self.mac(&["form", session.map_or("", |session| &session.name)])
    }

    /// Counts a try to log in, if the address may have one; if not, says in how many seconds it may. It is counted before it is known how it
    /// ends, so that many at once are not more than many one by one.
    pub(super) fn try_once(&self, from: IpAddr) -> Result<(), u64> {
        let mut tries = locked(&self.tries);
        tries.retain(|_, (since, _)| since.elapsed() < TRY_WINDOW);
        if tries.len() >= TRIERS && !tries.contains_key(&network(from)) {
            return Err(TRY_WINDOW.as_secs());
        }
        let (since, count) = tries.entry(network(from)).or_insert((Instant::now(), 0));
        if *count >= TRIES {
            return Err(TRY_WINDOW.saturating_sub(since.elapsed()).as_secs().max(1));
        }
        *count += 1;
        Ok(())
    }

    /// Forgets the tries of an address from where somebody has logged in.
    pub(super) fn succeeded(&self, from: IpAddr) {
        locked(&self.tries).remove(&network(from));
    }

    fn mac(&self, parts: &[&str]) -> String {
        // A MAC takes keys of any length; the error cannot be.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

/// Compares in a time that does not depend on where they differ. What is empty is like nothing.
pub(super) fn same(expected: &str, given: &str) -> bool {
    !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given.as_bytes()))
}

/// What a session of `who` rests on as it is now: it changes when the session is to end.
fn state(app: &App, who: &str) -> Option<String> {
    if who == BY_SECRET {
        return app.live().admin.as_ref().map(|admin| admin.expose_secret().to_owned());
    }
    let key = app.ledger.as_ref()?.key(&KeyId::from(who))?;
    (key.has(Scope::Admin) && key.is_valid(Timestamp::now())).then(|| key.revision.to_string())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Who has one address of the sixth version has its whole network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system has no random bytes: {e}"))?;
    Ok(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_may_fail_so_often_and_others_still_may() {
        let sessions = Sessions::new().unwrap();
        let [one, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        for _ in 0..TRIES {
            assert_eq!(sessions.try_once(one), Ok(()));
        }
        assert!(sessions.try_once(one).unwrap_err() > 0);
        assert_eq!(sessions.try_once(other), Ok(()));
        sessions.succeeded(one);
        assert_eq!(sessions.try_once(one), Ok(()));
    }

    #[test]
    fn a_whole_network_of_the_sixth_version_is_one() {
        let of = |a: &str| network(a.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; bantam_session2=x".parse().unwrap());
        assert_eq!(cookie(&headers), None);
        headers.append(header::COOKIE, "c=d; bantam_session=v.1".parse().unwrap());
        assert_eq!(cookie(&headers), Some("v.1"));
    }

    #[test]
    fn what_is_signed_has_borders() {
        let sessions = Sessions::new().unwrap();
        assert_ne!(sessions.mac(&["ab", "c"]), sessions.mac(&["a", "bc"]));
        assert!(!same("", "") && same("a", "a") && !same("a", "b"));
    }
}
