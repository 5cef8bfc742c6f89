//! Keys, requests and certificates (RFC 5280, RFC 2986).

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;

use crate::names::Names;

/// A new key, and the request for its certificate.
pub(crate) struct Wanted {
    /// The key, in PEM.
    pub(crate) key: SecretString,
    /// The request, in base64url.
    pub(crate) request: String,
}

impl Wanted {
    /// A key of its own for each certificate: one that got out is worth nothing after the next renewal.
    pub(crate) fn new(names: &Names) -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::new(names.all())?;
        // Authorities look at the names alone.
        parameters.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let request = parameters.serialize_request(&key)?;
        Ok(Self { key: SecretString::from(key.serialize_pem()), request: BASE64_URL_SAFE_NO_PAD.encode(request.der()) })
    }
}

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The names that it is for.
    pub(crate) names: Vec<String>,
    /// Its first second, since 1970.
    pub(crate) begin: i64,
    /// Its last second, since 1970.
    pub(crate) end: i64,
    /// How RFC 9773 names it (section 4.1); nothing for one without its authority's key identifier.
    pub(crate) id: Option<String>,
}

impl Leaf {
    /// Reads the first certificate of a PEM text that holds a chain and the key, and checks that they belong together.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn read(pem: &str) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let first = chain.first().cloned().ok_or("there is no certificate in it")?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| error.to_string())?;
        let (_, parsed) = parse_x509_certificate(&first).map_err(|error| error.to_string())?;
        let (mut names, mut authority) = (Vec::new(), None);
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(found) => {
                    names.extend(found.general_names.iter().filter_map(|name| match name {
                        GeneralName::DNSName(name) => Some((*name).to_owned()),
                        _ => None,
                    }));
                }
                ParsedExtension::AuthorityKeyIdentifier(found) => authority = found.key_identifier.clone(),
                _ => {}
            }
        }
        let serial = BASE64_URL_SAFE_NO_PAD.encode(parsed.raw_serial());
        Ok(Self {
            names,
            begin: parsed.validity().not_before.timestamp(),
            end: parsed.validity().not_after.timestamp(),
            id: authority.map(|authority| format!("{}.{serial}", BASE64_URL_SAFE_NO_PAD.encode(authority.0))),
        })
    }

    /// How long it is valid altogether, in seconds.
    pub(crate) fn lifetime(&self) -> i64 {
        (self.end - self.begin).max(0)
    }
}

/// A certificate that came for this key and these names, as one text: key and chain change together.
///
/// # Errors
/// It is for another key, does not have the names, or is none.
pub(crate) fn joined(wanted: &Wanted, chain: &str, names: &Names) -> Result<(SecretString, Leaf), String> {
    let text = format!("{}{}", wanted.key.expose_secret(), chain);
    let leaf = Leaf::read(&text)?;
    if !names.are_in(&leaf.names) {
        return Err(format!("it is not for {names}"));
    }
    Ok((SecretString::from(text), leaf))
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, IsCa, Issuer};

    use super::*;

    /// A certificate for these names from an authority of the test, with a key of its own unless one is given.
    pub(crate) fn signed(names: &Names, key: Option<&str>) -> (String, String) {
        let authority = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(parameters, authority);
        let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem).expect("a key");
        let mut parameters = CertificateParams::new(names.all()).expect("parameters");
        parameters.use_authority_key_identifier_extension = true;
        (key.serialize_pem(), parameters.signed_by(&key, &issuer).expect("signed").pem())
    }

    #[test]
    fn a_certificate_must_fit_key_and_names() {
        let names = Names::new("hub.example.org", "hub.example.org").expect("names");
        let wanted = Wanted::new(&names).expect("a key");
        let (_, chain) = signed(&names, Some(wanted.key.expose_secret()));
        let (text, leaf) = joined(&wanted, &chain, &names).expect("fits");
        assert_eq!(leaf.names, ["hub.example.org", "*.hub.example.org"]);
        assert!(leaf.lifetime() > 0 && leaf.id.as_ref().is_some_and(|id| id.split('.').count() == 2), "{leaf:?}");
        assert_eq!(Leaf::read(text.expose_secret()), Ok(leaf));
        let others = Names::new("other.example.org", "other.example.org").expect("names");
        assert!(joined(&wanted, &chain, &others).is_err());
        let (_, chain) = signed(&names, None);
        assert!(joined(&wanted, &chain, &names).is_err(), "another's key");
        for nothing in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "<html>"] {
            assert!(joined(&wanted, nothing, &names).is_err(), "{nothing}");
        }
    }
}
