//! A browser, or a program, that visits the application.

use axum::http::{Method, Request, header};
use db_services::audit::AuditLog;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::world::{World, shown};

const USER_AGENT: &str = "a test";

/// A browser: it keeps the cookie.
pub(crate) struct Browser<'w> {
    world: &'w World,
    client: Client<HttpConnector, String>,
    headers: Vec<(&'static str, String)>,
}

/// The answer to a request, and the entries that it has left.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where the browser is sent, or nothing.
    pub(crate) location: String,
    pub(crate) body: String,
    /// The entries that are stored since the request before.
    pub(crate) rows: Vec<AuditLog>,
    /// The same as text, as `World::new_entries` has them.
    pub(crate) entries: Vec<String>,
}

impl<'w> Browser<'w> {
    /// A browser with which nobody is signed in.
    pub(crate) fn new(world: &'w World) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            world,
            client,
            headers: Vec::new(),
        }
    }

    /// Sends a header with each request from now on.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The session.
    pub(crate) fn cookie(&self) -> &str {
        &self.headers.iter().find(|(name, _)| *name == "cookie").unwrap().1
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("name", name), ("password", password)])
            .await
    }

    /// Creates an API key, and returns it.
    pub(crate) async fn new_api_key(&mut self) -> String {
        let page = self.post("/api-keys", &[("name", "nightly")]).await.body;
        let (_, key) = page.split_once("id=\"key\">").unwrap();
        key.split_once('<').unwrap().0.to_owned()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, String::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, encoded(fields)).await
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Answer {
        let number = self.world.next_request();
        let request_id = format!("r-{number}");
        let answer = self.exchange(method, path, body, &request_id).await;
        let rows = self.world.new_rows().await;
        for row in &rows {
            assert_eq!(row.request_id.as_deref(), Some(&*request_id), "{row:?}");
            assert_eq!(row.user_agent.as_deref(), Some(USER_AGENT), "{row:?}");
            assert_eq!(row.ip_address.unwrap().addr().to_string(), "127.0.0.1", "{row:?}");
        }
        Answer {
            entries: shown(&rows),
            rows,
            ..answer
        }
    }

    /// Sends a request, without a look at the trail.
    pub(crate) async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: String,
        request_id: &str,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.world.address))
            .header("x-request-id", request_id)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = self.client.request(request.body(body).unwrap()).await.unwrap();
        let text = |name| {
            answer
                .headers()
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        let (location, cookie) = (text(header::LOCATION), text(header::SET_COOKIE));
        if let Some((pair, attributes)) = cookie.split_once(';') {
            assert!(
                attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"),
                "{cookie}"
            );
            self.headers.retain(|(name, _)| *name != "cookie");
            self.headers.push(("cookie", pair.to_owned()));
        }
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Answer {
            status,
            location,
            body: String::from_utf8(body.to_vec()).unwrap(),
            rows: Vec::new(),
            entries: Vec::new(),
        }
    }
}

/// The fields of a form.
pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    fields.collect::<Vec<_>>().join("&")
}
