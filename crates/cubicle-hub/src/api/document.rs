//! Routes and their description in one: what is not described cannot be reached, so
//! `openapi.json` lists every route.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::header;
use axum::routing::{MethodFilter, on};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, OpenApiBuilder, Paths, Ref, RefOr, Required, Schema};

use crate::hub::Hub;

/// Where the interface lives.
const PREFIX: &str = "/api/v1";
/// The named schemas, hand-written: the nouns of the core know nothing of OpenAPI.
const SCHEMAS: &str = include_str!("schemas.json");

/// Statuses of everything that is refused or fails, on every route: each is a problem (RFC 9457). What is not here is
/// no answer of this interface.
const REFUSALS: [u16; 11] = [400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503];

/// What a route answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// A JSON document of this schema.
    Json(&'static str),
    /// A JSON array of this schema.
    List(&'static str),
    /// Nothing.
    Empty,
    /// Plain text.
    Text,
    /// Comma-separated values.
    Csv,
    /// Server-sent events: this schema is one event, whose `data` is a JSON document.
    Events(&'static str),
}

/// What is said about a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doc {
    /// The operation's identifier.
    pub(super) id: &'static str,
    /// One sentence.
    pub(super) summary: &'static str,
    /// The schema of the JSON body.
    pub(super) input: Option<&'static str>,
    /// Parameters of the query: name, what it does.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// Status and content of success.
    pub(super) answer: (u16, Answer),
}

/// A router that grows together with its description.
pub(super) struct Documented {
    router: Router<Arc<Hub>>,
    paths: Paths,
}

impl Documented {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), paths: Paths::new() }
    }

    /// Adds a route below `/api/v1`.
    pub(super) fn route<H, T>(mut self, method: HttpMethod, path: &str, handler: H, doc: Doc) -> Self
    where
        H: Handler<T, Arc<Hub>>,
        T: 'static,
    {
        let filter = match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Put => MethodFilter::PUT,
            HttpMethod::Delete => MethodFilter::DELETE,
            HttpMethod::Patch => MethodFilter::PATCH,
            _ => MethodFilter::GET,
        };
        let full = format!("{PREFIX}{path}");
        self.paths.add_path_operation(&full, vec![method], operation(path, doc));
        self.router = self.router.route(&full, on(filter, handler));
        self
    }

    /// The router, with its description at `/openapi.json`.
    pub(super) fn into_router(mut self) -> Router<Arc<Hub>> {
        let doc = Doc {
            id: "describe",
            summary: "This description, an OpenAPI 3.1 document.",
            answer: (200, Answer::Json("Anything")),
            ..Doc::NONE
        };
        let full = format!("{PREFIX}/openapi.json");
        // Whoever may do nothing may know what there is.
        self.paths.add_path_operation(
            &full,
            vec![HttpMethod::Get],
            operation("/openapi.json", doc).securities(Some([])),
        );
        let text = describe(self.paths);
        let serve = move || {
            let text = text.clone();
            async move { ([(header::CONTENT_TYPE, "application/json")], text) }
        };
        self.router.route(&full, on(MethodFilter::GET, serve))
    }
}

impl Doc {
    /// A route that takes and answers nothing.
    pub(super) const NONE: Self = Self { id: "", summary: "", input: None, query: &[], answer: (204, Answer::Empty) };
}

fn schema(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

fn operation(path: &str, doc: Doc) -> OperationBuilder {
    let text = || RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).build()));
    let mut operation = OperationBuilder::new().operation_id(Some(doc.id)).summary(Some(doc.summary));
    for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(part)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(text())),
        );
    }
    for (name, meaning) in doc.query {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(*meaning))
                .schema(Some(text())),
        );
    }
    if let Some(input) = doc.input {
        let content = ContentBuilder::new().schema(Some(schema(input))).build();
        operation =
            operation.request_body(Some(RequestBodyBuilder::new().content("application/json", content).build()));
    }
    let (status, answer) = doc.answer;
    let success = ResponseBuilder::new().description("Done.");
    let success = match answer {
        Answer::Json(name) => {
            success.content("application/json", ContentBuilder::new().schema(Some(schema(name))).build())
        }
        Answer::List(name) => {
            let list = RefOr::T(Schema::Array(utoipa::openapi::ArrayBuilder::new().items(schema(name)).build()));
            success.content("application/json", ContentBuilder::new().schema(Some(list)).build())
        }
        Answer::Text => success.content("text/plain", ContentBuilder::new().schema(Some(text())).build()),
        Answer::Csv => success.content("text/csv", ContentBuilder::new().schema(Some(text())).build()),
        Answer::Events(name) => {
            success.content("text/event-stream", ContentBuilder::new().schema(Some(schema(name))).build())
        }
        Answer::Empty => success,
    };
    let refused = REFUSALS.map(|status| (status.to_string(), Ref::from_response_name("Problem")));
    let operation = operation.response(status.to_string(), success.build());
    refused.into_iter().fold(operation, |operation, (status, problem)| operation.response(status, problem))
}

/// The whole description. The schemas are a constant of this program, so a mistake in them
/// shows in every test; the description is then served without them.
fn describe(paths: Paths) -> String {
    let components: Option<Components> = serde_json::from_str(SCHEMAS).ok();
    let info = InfoBuilder::new()
        .title("Cubicle")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("One person, one notebook, behind walls that are checked."))
        .build();
    let document = OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(components)
        .security(Some([
            SecurityRequirement::new("token", Vec::<String>::new()),
            SecurityRequirement::new("session", Vec::<String>::new()),
        ]))
        .build();
    document.to_json().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_named_exists() {
        let components: Components = serde_json::from_str(SCHEMAS).expect("schemas are valid");
        assert!(components.security_schemes.contains_key("token"));
        for name in SCHEMAS.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(components.schemas.contains_key(name), "{name}");
        }
    }
}
