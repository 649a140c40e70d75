//! Heads of HTTP/2: a request as the app gets it, and what the gate answers by itself.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER},
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::gate::{
    proxy::{
        fields::{self, Field},
        refusal,
    },
    reason::{HEADER, Reason},
};

/// The request as the app gets it, or why it does not.
pub(super) fn for_app(parts: http::request::Parts, app: &str) -> Result<Request<()>, Reason> {
    let http::request::Parts {
        method,
        uri,
        mut headers,
        ..
    } = parts;
    if method == Method::CONNECT {
        return Err(Reason::Connect);
    }
    let stripped: Vec<_> = headers
        .keys()
        .filter(|name| fields::classify(name.as_str()) == Field::Portcullis)
        .cloned()
        .collect();
    for name in stripped {
        headers.remove(name);
    }
    let authority = authority(&uri, &headers, app)?;
    // `http` has no target form with a scheme and without an authority; the app gets both.
    let uri = Uri::builder()
        .scheme(uri.scheme().cloned().unwrap_or(Scheme::HTTP))
        .authority(authority)
        .path_and_query(
            uri.path_and_query()
                .cloned()
                .unwrap_or(PathAndQuery::from_static("/")),
        )
        .build()
        .map_err(|_| Reason::BadRequest)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Who is asked: `:authority` and `Host`, which must agree (RFC 9113, section 8.3.1).
fn authority(uri: &Uri, headers: &HeaderMap, app: &str) -> Result<Authority, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    let named = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let differs = matches!((host, named), (Some(host), Some(named)) if host != named);
    let asked = named.or(host).unwrap_or(app.as_bytes());
    if second.is_some() || differs || asked.is_empty() || !fields::is_host(asked) {
        return Err(Reason::BadRequest);
    }
    Authority::try_from(asked).map_err(|_| Reason::BadRequest)
}

/// What a held request takes: its fields, by the measure of RFC 9113, section 6.5.2.
pub(super) fn size(request: &Request<()>) -> usize {
    const OVERHEAD: usize = 32;
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD);
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    fields.sum::<usize>() + target
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A response of HTTP for this reason.
pub(super) fn answer(reason: Reason) -> (Response<()>, Bytes) {
    let mut answer = Response::new(());
    *answer.status_mut() = reason.status();
    answer
        .headers_mut()
        .insert(HEADER, HeaderValue::from_static(reason.as_str()));
    if reason.may_retry() {
        let after = HeaderValue::from_static(refusal::RETRY_AFTER);
        answer.headers_mut().insert(RETRY_AFTER, after);
    }
    (answer, Bytes::from(refusal::text(reason)))
}

/// A response of gRPC that consists of trailers only: 14, UNAVAILABLE.
pub(super) fn grpc_answer(reason: Reason) -> (Response<()>, Bytes) {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    headers.insert("grpc-message", HeaderValue::from_static(reason.as_str()));
    headers.insert(HEADER, HeaderValue::from_static(reason.as_str()));
    (answer, Bytes::new())
}
