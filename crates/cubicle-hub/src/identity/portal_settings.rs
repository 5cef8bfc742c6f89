//! What the site's document says of a portal that speaks Hatchery's contract.

use cubicle_core::document::{Node, Value};
use openidconnect::url::Url;

use super::settings::{Reader, is_guarded};

/// A portal whose users come with a bearer token, below `/lw-workspace/` on the portal's own origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalSettings {
    /// The portal's origin as browsers see it: `https://HOST` or `https://HOST:PORT`.
    pub url: String,
    /// The name of the provider whose tokens count.
    pub provider: String,
    /// Tokens are for one of these; the provider's client id when the document names none.
    pub audiences: Vec<String>,
    /// The claim that `REMOTE_USER` must agree with; dots lead into objects.
    pub remote_user_claim: String,
}

impl Reader<'_> {
    /// Reads the mapping under `portal`. `providers` are names and client ids.
    pub(super) fn portal(&mut self, node: &Node, providers: &[(String, String)]) -> Option<PortalSettings> {
        const KEYS: [&str; 5] = ["url", "provider", "audiences", "remoteUserClaim", "browser"];
        let before = self.mistakes.len();
        let entries = self.entries(node, "portal", &KEYS);
        let (mut url, mut provider, mut audiences, mut claim, mut browser) = (None, None, None, None, None);
        for (key, line, value) in entries {
            match key.as_str() {
                "url" => url = self.text(key, value).filter(|url| self.is_origin(*line, url)),
                "provider" => provider = self.text(key, value).map(|name| (name, *line)),
                "audiences" => audiences = Some((self.texts(key, value), *line)),
                "remoteUserClaim" => claim = self.text(key, value),
                "browser" => browser = self.text(key, value).map(|browser| (browser, *line)),
                _ => {}
            }
        }
        for key in ["url", "provider", "browser"] {
            if matches!(node.value, Value::Map(_)) && !entries.iter().any(|(given, _, _)| given == key) {
                self.wrong(node.line, format!("portal needs {key}"));
            }
        }
        if let Some((browser, line)) = browser
            && browser != "one-origin"
        {
            self.wrong(
                line,
                "browser must be one-origin: a portal shows everybody's workspaces on its own origin, so that \
                 SV-13 (cookies of other users) is not claimed for them",
            );
        }
        let known = provider.as_ref().and_then(|(name, _)| providers.iter().find(|(known, _)| known == name));
        if let (Some((_, line)), None) = (&provider, known) {
            self.wrong(*line, "provider must be the name of one under providers");
        }
        if let Some((list, line)) = &audiences
            && list.is_empty()
        {
            self.wrong(*line, "audiences must name at least one: a token for anybody is for nobody");
        }
        if self.mistakes.len() > before {
            return None;
        }
        let (name, client) = known?;
        Some(PortalSettings {
            url: url?.trim_end_matches('/').to_owned(),
            provider: name.clone(),
            audiences: audiences.map_or_else(|| vec![client.clone()], |(list, _)| list),
            remote_user_claim: claim.unwrap_or_else(|| "sub".to_owned()),
        })
    }

    fn is_origin(&mut self, line: usize, text: &str) -> bool {
        let good = Url::parse(text).is_ok_and(|url| {
            is_guarded(&url)
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        });
        if !good {
            self.wrong(line, "url must be https://HOST or https://HOST:PORT; plain http only for a loopback address");
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::read;

    const PROVIDER: &str = "providers:\n- name: campus\n  issuer: https://a.example.org\n  clientId: x\n";

    #[test]
    fn a_portal_says_that_it_is_one_origin() {
        let portal = |more: &str| read(&format!("{PROVIDER}portal:\n  url: https://portal.example.org/\n{more}"));
        let good = portal("  provider: campus\n  browser: one-origin\n").expect("valid").portal.expect("a portal");
        assert_eq!((good.url.as_str(), good.remote_user_claim.as_str()), ("https://portal.example.org", "sub"));
        assert_eq!(good.audiences, ["x"]);
        for (more, expected) in [
            ("  provider: campus\n", "portal needs browser"),
            ("  provider: campus\n  browser: own\n", "browser must be one-origin"),
            ("  provider: other\n  browser: one-origin\n", "provider must be the name"),
            ("  browser: one-origin\n", "portal needs provider"),
            ("  provider: campus\n  browser: one-origin\n  audiences: []\n", "audiences must name"),
            ("  provider: campus\n  browser: one-origin\n  colour: red\n", "portal has no key"),
        ] {
            let problem = portal(more).expect_err(more);
            assert!(problem.what.contains(expected), "{}", problem.what);
        }
        for url in ["http://portal.example.org", "https://portal.example.org/x", "portal", "https://a@b.example.org"] {
            let text = format!("{PROVIDER}portal: {{url: '{url}', provider: campus, browser: one-origin}}\n");
            assert!(read(&text).expect_err(url).what.contains("url must be"), "{url}");
        }
    }
}
