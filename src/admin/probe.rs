//! Asks an address over plain HTTP whether it is well: `tickgen health` its own admin server,
//! `--start-when` the application under test. One small GET, no redirects, no TLS.

use axum::http::Uri;
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// An `http://` address to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Host and port, as a connection needs them.
    host: String,
    port: u16,
    /// Host and port, as the request names them.
    authority: String,
    /// Path and query.
    path: String,
}

/// Longest status line that is read.
const STATUS_LINE: usize = 1024;

impl Probe {
    /// Reads `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// What is wrong with the text, for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a URL such as http://127.0.0.1:8080/ready".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("https is not spoken here; expected a URL with http://".into()),
            _ => return Err(wrong()),
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a user and password are not taken; expected http://HOST[:PORT][/PATH]".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // A port that is named and is none is a mistake, not 80.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            _ => authority.port_u16().filter(|&port| port > 0).ok_or_else(wrong)?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { host, port, authority: authority.to_string(), path })
    }

    /// `/livez` of an admin server that listens at `addr`; one that listens everywhere is asked at home.
    #[must_use]
    pub fn livez(mut addr: SocketAddr) -> Self {
        if addr.ip().is_unspecified() {
            addr.set_ip(if addr.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        let (host, port) = (addr.ip().to_string(), addr.port());
        Self { host, port, authority: addr.to_string(), path: "/livez".into() }
    }

    /// Sends one GET and returns the status of the answer. Connecting, sending and each read take at
    /// most `timeout`; this blocks.
    ///
    /// # Errors
    /// If there is no answer, or none in HTTP.
    pub fn get(&self, timeout: Duration) -> std::io::Result<u16> {
        let mut socket = self.connect(timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        let Self { authority, path, .. } = self;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: tickgen\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        let mut part = [0; 64];
        while line.len() < STATUS_LINE && !line.contains(&b'\n') {
            match socket.read(&mut part)? {
                0 => break,
                read => line.extend_from_slice(&part[..read]),
            }
        }
        status(&line).ok_or_else(|| Error::new(ErrorKind::InvalidData, "the answer is not HTTP"))
    }

    fn connect(&self, timeout: Duration) -> std::io::Result<TcpStream> {
        let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
        for addr in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&addr, timeout) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The status of a line such as `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|&byte| byte == b'\n').next()?).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace();
    words.next().filter(|minor| minor.len() == 1)?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, host, port, path) in [
            ("http://app", "app", 80, "/"),
            ("http://127.0.0.1:8080/ready?deep=1", "127.0.0.1", 8080, "/ready?deep=1"),
            ("http://[::1]:81/x", "::1", 81, "/x"),
            ("http://[::1]", "::1", 80, "/"),
        ] {
            let probe = Probe::parse(text).unwrap();
            assert_eq!((probe.host.as_str(), probe.port, probe.path.as_str()), (host, port, path), "{text}");
        }
        assert_eq!(Probe::parse("http://a:81/x").unwrap().to_string(), "http://a:81/x");
        for (text, why) in [
            ("https://app/ready", "https is not spoken here"),
            ("app:80", "expected a URL such as"),
            ("/ready", "expected a URL such as"),
            ("http://", "expected a URL such as"),
            ("http://:80/", "expected a URL such as"),
            ("http://app:/x", "expected a URL such as"),
            ("http://app:0/x", "expected a URL such as"),
            ("http://app:66000/x", "expected a URL such as"),
            ("http://me:secret@app/", "a user and password are not taken"),
            ("http://a b/", "expected a URL such as"),
        ] {
            let error = Probe::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn health_of_a_server_that_listens_everywhere_is_asked_at_home() {
        for (addr, url) in [
            ("0.0.0.0:9090", "http://127.0.0.1:9090/livez"),
            ("[::]:9090", "http://[::1]:9090/livez"),
            ("10.0.0.1:80", "http://10.0.0.1:80/livez"),
        ] {
            assert_eq!(Probe::livez(addr.parse().unwrap()).to_string(), url);
        }
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nx"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for not in
            [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1", b"HTTP/1.1 20", b"HTTP/1.1 2000 x", b"\xff 200"]
        {
            assert_eq!(status(not), None);
        }
    }
}
