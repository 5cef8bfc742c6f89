//! What the environment says: the variables of the OpenTelemetry specification
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>), read once and refused in words when they
//! cannot be meant.

use std::path::PathBuf;
use std::time::Duration;

use cubicle_core::problem::Problem;
use hyper::Uri;

/// Where a collector listens for all signals; `/v1/traces` is added.
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where a collector listens for traces; taken as it is.
pub const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// How long one export may take when nothing is said: the specification's ten seconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The samplers that the SDK has.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Where traces go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `http` or `https`, a host, and the whole path.
    pub(crate) endpoint: Uri,
    /// How long one export may take.
    pub(crate) timeout: Duration,
    /// A file of authorities to trust instead of the machine's.
    pub(crate) authorities: Option<PathBuf>,
}

impl Settings {
    /// Reads the variables; none when traces are not asked for.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Problem> {
        // The specification: an empty value is as good as none.
        let variable = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|one| !one.is_empty());
        let is = |name: &str, value: &str| variable(name).is_some_and(|given| given.eq_ignore_ascii_case(value));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let (name, endpoint) = match (variable(TRACES_ENDPOINT), variable(ENDPOINT)) {
            (Some(endpoint), _) => (TRACES_ENDPOINT, endpoint),
            (None, Some(endpoint)) => (ENDPOINT, endpoint),
            (None, None) => return Ok(None),
        };
        one_of(&variable, "OTEL_TRACES_EXPORTER", &["otlp"])?;
        for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
            one_of(&variable, name, &["http/protobuf"])?;
        }
        for name in ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] {
            one_of(&variable, name, &["none"])?;
        }
        one_of(&variable, "OTEL_TRACES_SAMPLER", &SAMPLERS)?;
        ratio(&variable)?;
        let either = |end: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{end}"), format!("OTEL_EXPORTER_OTLP_{end}")];
            names.into_iter().find_map(|name| Some((variable(&name)?, name)))
        };
        let timeout = match either("TIMEOUT") {
            None => TIMEOUT,
            Some((value, name)) => match value.parse::<u64>() {
                Ok(milliseconds @ 1..=600_000) => Duration::from_millis(milliseconds),
                _ => {
                    return Err(Problem::bad_input(
                        format!("{name}={} is not a time in milliseconds from 1 to 600000", shown(&value)),
                        format!("set {name} to a number, for example 10000, or leave it out"),
                    ));
                }
            },
        };
        let authorities = either("CERTIFICATE").map(|(file, _)| PathBuf::from(file));
        Ok(Some(Self { endpoint: whole(name, &endpoint)?, timeout, authorities }))
    }
}

/// The address that spans are sent to.
fn whole(name: &str, endpoint: &str) -> Result<Uri, Problem> {
    let wrong = |rule: &str| {
        Problem::bad_input(
            format!("{name}={}: {rule}", shown(endpoint)),
            format!(
                "set {name} to the collector's OTLP address over HTTP, for example http://127.0.0.1:4318, or leave it out"
            ),
        )
    };
    let path = if name == ENDPOINT { "/v1/traces" } else { "" };
    let text = if path.is_empty() { endpoint } else { endpoint.trim_end_matches('/') };
    let uri: Uri = format!("{text}{path}").parse().map_err(|_| wrong("it is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("a URL that begins with http:// or https:// is needed"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("a URL with a password in it is not taken; OTEL_EXPORTER_OTLP_HEADERS is for keys"));
    }
    if authority.host().is_empty() || (authority.as_str() != authority.host() && authority.port_u16().is_none()) {
        return Err(wrong("host and port cannot be read"));
    }
    if uri.query().is_some() || endpoint.contains('#') {
        return Err(wrong("it has a query or a fragment, where nothing but a path can follow the host"));
    }
    Ok(uri)
}

fn one_of(variable: &impl Fn(&str) -> Option<String>, name: &str, allowed: &[&str]) -> Result<(), Problem> {
    match variable(name) {
        Some(value) if !allowed.contains(&value.as_str()) => Err(Problem::bad_input(
            format!("{name}={} is not known here: {} can be had", shown(&value), allowed.join(", ")),
            format!("set {name} to one of these, or leave it out"),
        )),
        _ => Ok(()),
    }
}

fn ratio(variable: &impl Fn(&str) -> Option<String>) -> Result<(), Problem> {
    const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
    if !variable("OTEL_TRACES_SAMPLER").is_some_and(|sampler| sampler.ends_with("traceidratio")) {
        return Ok(());
    }
    match variable(NAME).map(|value| (value.parse::<f64>(), value)) {
        None => Ok(()),
        Some((Ok(ratio), _)) if (0.0..=1.0).contains(&ratio) => Ok(()),
        Some((_, value)) => Err(Problem::bad_input(
            format!("{NAME}={} is not a share from 0 to 1", shown(&value)),
            format!("set {NAME} to 0.1, for example, for one launch in ten"),
        )),
    }
}

/// A value as it may be shown: short, on one line, and not when it may hold a password.
fn shown(value: &str) -> String {
    if value.contains('@') {
        return "(hidden)".to_owned();
    }
    value.chars().take(100).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Problem> {
        Settings::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(variables: &[(&str, &str)]) -> String {
        read(variables).expect("well-formed").expect("asked for").endpoint.to_string()
    }

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_named() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, " "), (TRACES_ENDPOINT, "")]), Ok(None));
        // What stands beside no endpoint is nobody's mistake: other programs read it too.
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_SERVICE_NAME", "x")]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, "http://c:4318"), ("OTEL_SDK_DISABLED", "True")]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
    }

    #[test]
    fn the_path_is_added_to_the_general_endpoint_alone() {
        assert_eq!(endpoint(&[(ENDPOINT, "http://127.0.0.1:4318")]), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(endpoint(&[(ENDPOINT, "https://c.example/otlp/")]), "https://c.example/otlp/v1/traces");
        assert_eq!(endpoint(&[(ENDPOINT, "http://[::1]:4318")]), "http://[::1]:4318/v1/traces");
        let both = [(ENDPOINT, "http://a:1"), (TRACES_ENDPOINT, "http://b:2/x")];
        assert_eq!(endpoint(&both), "http://b:2/x");
    }

    #[test]
    fn what_cannot_be_meant_names_variable_rule_and_remedy() {
        for (name, value) in [
            (ENDPOINT, "collector:4318"),
            (ENDPOINT, "127.0.0.1"),
            (ENDPOINT, "grpc://c:4317"),
            (ENDPOINT, "http://"),
            (ENDPOINT, "http://c:port"),
            (ENDPOINT, "http://c:99999"),
            (ENDPOINT, "http://c:4318?x=1"),
            (TRACES_ENDPOINT, "http://c:4318/#x"),
            (TRACES_ENDPOINT, "a b"),
            (TRACES_ENDPOINT, "\u{1b}[2J"),
        ] {
            let problem = read(&[(name, value)]).expect_err(value);
            assert!(problem.what.starts_with(&format!("{name}=")), "{problem:?}");
            assert!(problem.remedy.contains(name) && problem.remedy.contains("http://127.0.0.1:4318"), "{problem:?}");
            assert!(!problem.what.contains('\u{1b}'), "{problem:?}");
        }
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ] {
            let problem = read(&[(ENDPOINT, "http://c:4318"), (name, value)]).expect_err(value);
            assert!(problem.what.contains(name) && problem.remedy.contains(name), "{problem:?}");
        }
        let share = [
            (ENDPOINT, "http://c:4318"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert!(read(&share).expect_err("too much").what.contains("OTEL_TRACES_SAMPLER_ARG"));
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let problem = read(&[(ENDPOINT, "https://user:secret@c:4318")]).expect_err("refused");
        assert!(!problem.to_string().contains("secret") && !problem.remedy.contains("secret"), "{problem:?}");
        assert!(problem.what.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{problem:?}");
    }

    #[test]
    fn of_two_variables_the_one_for_traces_counts() {
        let settings = read(&[
            (ENDPOINT, "https://c:4318"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ]);
        let settings = settings.expect("well-formed").expect("asked for");
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(settings.authorities, Some(PathBuf::from("/ca.pem")));
    }
}
