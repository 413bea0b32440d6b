//! Who may ask what: nobody steers through a web page that a browser here has open, and nobody from
//! elsewhere without the token.

use super::problem::Problem;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// What steering requests must show. Its digest is kept: digests are of one length, so that the time of a
/// comparison does not tell that of the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    digest: [u8; 32],
    exposed: Option<PathBuf>,
}

impl Token {
    /// The shortest token that is taken, in characters.
    const SHORTEST: usize = 16;

    /// Reads a token from its file; space around it, such as a last newline, is not part of it.
    ///
    /// # Errors
    /// What is wrong with the file, for the user.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mode = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
        let exposed = (mode & 0o004 != 0).then(|| path.to_owned());
        Ok(Self { exposed, ..Self::parse(&text)? })
    }

    /// Its file, if every user of this machine can read it.
    #[must_use]
    pub fn exposed(&self) -> Option<&Path> {
        self.exposed.as_deref()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() < Self::SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the token must be {} or more ASCII characters without space, such as `openssl rand -hex 32` makes",
                Self::SHORTEST
            ));
        }
        Ok(Self { digest: Sha256::digest(text).into(), exposed: None })
    }

    /// Whether this is the token. It takes the same time whatever part of it is right.
    fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.digest.ct_eq(&given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Whom the admin server lets steer.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// What they must show.
    pub token: Option<Token>,
    /// Names, besides addresses and `localhost`, by which the server may be asked.
    pub hosts: Vec<String>,
    /// Whether only this machine reaches it.
    pub loopback: bool,
}

impl Guard {
    /// Refuses a request that a browser makes for a web page: one by a name that somebody else may point
    /// here, or one that says it comes from elsewhere.
    pub(super) fn check_source(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "a request has one Host header; this one has not",
            ));
        };
        let host = host.to_str().unwrap_or_default();
        let authority: Option<Authority> = host.parse().ok();
        if !authority.is_some_and(|authority| self.knows(authority.host())) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!(
                    "the Host {host:?} is neither an address nor localhost; ask by address, or start tickgen \
                     with --admin-host NAME"
                ),
            ));
        }
        let own = format!("http://{host}");
        if headers
            .get_all(ORIGIN)
            .iter()
            .any(|origin| !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()))
        {
            return Err(Problem::new(StatusCode::FORBIDDEN, "web pages of another origin are not answered"));
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Refuses who may not steer.
    pub(super) fn check_right(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            if self.loopback {
                return Ok(());
            }
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "others than this machine reach this address, so steering needs a token: start tickgen with \
                 --admin-token-file FILE",
            ));
        };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (given, more) = (given.next().and_then(|value| bearer(value.as_bytes())), given.next());
        if more.is_none() && given.is_some_and(|given| token.is(given)) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "steering needs the token of --admin-token-file: Authorization: Bearer TOKEN",
        ))
    }
}

/// What follows the word `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result
            .err()
            .map_or(200, |problem| axum::response::IntoResponse::into_response(problem).status().as_u16())
    }

    #[test]
    fn only_hosts_that_nobody_else_can_point_here_are_answered() {
        let guard = Guard { hosts: vec!["tickgen.test".into()], ..Guard::default() };
        for (host, expected) in [
            ("127.0.0.1", 200),
            ("127.0.0.1:9090", 200),
            ("[::1]:9090", 200),
            ("10.1.2.3:80", 200),
            ("localhost:9090", 200),
            ("LocalHost", 200),
            ("Tickgen.test:9090", 200),
            ("evil.test", 403),
            ("127.0.0.1.evil.test", 403),
            ("localhost.evil.test:9090", 403),
            ("xtickgen.test", 403),
            ("127.0.0.1@evil.test", 403),
            ("", 403),
            ("a b", 403),
        ] {
            assert_eq!(status(guard.check_source(&headers(&[(HOST, host)]))), expected, "{host}");
        }
        assert_eq!(status(guard.check_source(&HeaderMap::new())), 400);
        assert_eq!(status(guard.check_source(&headers(&[(HOST, "localhost"), (HOST, "localhost")]))), 400);
    }

    #[test]
    fn only_pages_of_its_own_are_answered() {
        for (origin, expected) in [
            ("http://127.0.0.1:9090", 200),
            ("http://127.0.0.1:9091", 403),
            ("https://127.0.0.1:9090", 403),
            ("http://evil.test", 403),
            ("http://127.0.0.1:9090.evil.test", 403),
            ("null", 403),
            ("", 403),
        ] {
            let asked = headers(&[(HOST, "127.0.0.1:9090"), (ORIGIN, origin)]);
            assert_eq!(status(Guard::default().check_source(&asked)), expected, "{origin}");
        }
        let two = headers(&[(HOST, "[::1]"), (ORIGIN, "http://[::1]"), (ORIGIN, "http://evil.test")]);
        assert_eq!(status(Guard::default().check_source(&two)), 403);
    }

    #[test]
    fn the_token_is_asked_for_unless_only_this_machine_can_ask() {
        let of = |token: Option<&str>, loopback: bool| Guard {
            token: token.map(|text| Token::parse(text).unwrap()),
            loopback,
            ..Guard::default()
        };
        let open = of(None, true);
        let closed = of(None, false);
        assert_eq!(
            (status(open.check_right(&HeaderMap::new())), status(closed.check_right(&HeaderMap::new()))),
            (200, 403)
        );
        let token = "0123456789abcdef";
        for loopback in [true, false] {
            let guard = of(Some(token), loopback);
            for (given, expected) in [
                ("Bearer 0123456789abcdef", 200),
                ("bearer  0123456789abcdef", 200),
                ("Bearer 0123456789abcdeF", 401),
                ("Bearer 0123456789abcde", 401),
                ("Bearer 0123456789abcdef0", 401),
                ("Bearer", 401),
                ("Bearer ", 401),
                ("Basic 0123456789abcdef", 401),
                ("0123456789abcdef", 401),
                ("", 401),
            ] {
                assert_eq!(
                    status(guard.check_right(&headers(&[(AUTHORIZATION, given)]))),
                    expected,
                    "{given}"
                );
            }
            assert_eq!(status(guard.check_right(&HeaderMap::new())), 401);
            let right = format!("Bearer {token}");
            let twice = headers(&[(AUTHORIZATION, &right), (AUTHORIZATION, &right)]);
            assert_eq!(status(guard.check_right(&twice)), 401);
        }
    }

    #[test]
    fn a_token_is_long_enough_and_not_shown() {
        assert!(Token::parse(" 0123456789abcdef\n").is_ok());
        for wrong in ["", "short", "0123456789 abcdef", "0123456789abcdé0"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Token::parse("0123456789abcdef")), "Ok(Token(..))");
        assert_eq!(Token::parse("0123456789abcdef").unwrap().digest.len(), 32);
        assert!(Token::read(Path::new("/nowhere/token")).unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_file_that_others_can_read_is_noticed() {
        let path = std::env::temp_dir().join(format!("tickgen-token-{}", std::process::id()));
        std::fs::write(&path, "0123456789abcdef").unwrap();
        for (mode, exposed) in [(0o600, None), (0o640, None), (0o644, Some(&*path))] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Token::read(&path).unwrap().exposed(), exposed, "{mode:o}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
