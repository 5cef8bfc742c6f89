//! What handlers read from a request, with every refusal as a problem.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use cubicle_core::problem::Problem;
use serde::de::DeserializeOwned;

use crate::problem::ApiProblem;

/// A JSON body.
pub(super) struct Input<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiProblem> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let status = match &rejection {
                    JsonRejection::MissingJsonContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    JsonRejection::BytesRejection(inner) => inner.status(),
                    _ => StatusCode::BAD_REQUEST,
                };
                Err(ApiProblem::with_status(
                    status,
                    Problem::bad_input(
                        rejection.body_text(),
                        "send a JSON object as /api/v1/openapi.json describes it",
                    ),
                ))
            }
        }
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalInput<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalInput<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiProblem> {
        let typed = request.headers().contains_key(axum::http::header::CONTENT_TYPE);
        let empty = axum::body::HttpBody::is_end_stream(request.body());
        if empty || !typed {
            return Ok(Self(T::default()));
        }
        Input::from_request(request, state).await.map(|Input(value)| Self(value))
    }
}

/// The one parameter of a path.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(rejection) => Err(unreadable_path(&rejection.body_text())),
        }
    }
}

/// The two parameters of a path.
pub(super) struct Segments(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(Path((first, second))) => Ok(Self(first, second)),
            Err(rejection) => Err(unreadable_path(&rejection.body_text())),
        }
    }
}

fn unreadable_path(why: &str) -> ApiProblem {
    ApiProblem::from(Problem::bad_input(format!("the path cannot be read: {why}"), "percent-encode names as UTF-8"))
}

/// The query.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiProblem::from(Problem::bad_input(
                format!("the query cannot be read: {}", rejection.body_text()),
                "GET /api/v1/openapi.json says what each route takes",
            ))),
        }
    }
}
