//! Counts what is asked of the Kubernetes API, each attempt for itself, as client-go does.

use crate::telemetry::Metrics;
use axum::http::{Method, Request, Response};
use kube::client::Body;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Puts [`Counted`] around a client.
#[derive(Clone, Debug)]
pub struct Count(pub Metrics);

/// A client whose answers are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (metrics, method) = (self.metrics.clone(), name(request.method()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            metrics.kubernetes_call(method, answer.as_ref().ok().map(|answer| answer.status().as_u16()));
            answer
        })
    }
}

/// The methods that the operator uses.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
