//! What a client's certificate says about its owner. The chain has been verified before.

use super::UserName;
use crate::shard::Certificate;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Longest name that is taken from a certificate; longer ones count as absent.
const NAME_BYTES_MAX: usize = 1024;

/// Reads a certificate. `None` if it is not DER, which no verified one is.
pub(super) fn read(der: &[u8], user_name: UserName) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = subject(certificate.subject())?;
    let common_name = common_name(certificate.subject());
    let user = match user_name {
        UserName::None => None,
        UserName::Identity => common_name.clone().or_else(|| alternative_name(&certificate)),
        UserName::Subject => Some(subject.clone()),
    };
    Some(Certificate { common_name, subject, user: user.map(Into::into) })
}

fn usable(name: &str) -> bool {
    // A user name of MQTT, which a NUL could end early elsewhere. [MQTT-1.5.4-2]
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(|c: char| c.is_control())
}

/// The last common name, as the most specific one.
fn common_name(name: &X509Name<'_>) -> Option<String> {
    let last = name.iter_common_name().last()?;
    last.as_str().ok().filter(|name| usable(name)).map(str::to_owned)
}

/// In the order and notation of RFC 4514 as other brokers show it: most specific first.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let value = attribute.as_str().ok()?;
        let kind = x509_parser::objects::oid2abbrev(
            attribute.attr_type(),
            x509_parser::objects::oid_registry(),
        );
        let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        parts.push(format!("{kind}={}", escaped(value)));
    }
    parts.reverse();
    let subject = parts.join(",");
    (subject.is_empty() || usable(&subject)).then_some(subject)
}

/// RFC 4514 §2.4: who may choose a value of the subject cannot make it look like two.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for (index, character) in value.char_indices() {
        let leads = index == 0 && matches!(character, ' ' | '#');
        let trails = character == ' ' && index + 1 == value.len();
        if leads || trails || ",+\"\\<>;=".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// The first alternative name that can be a user name.
fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    let first = names.value.general_names.iter().find_map(|name| {
        if let GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) =
            name
        {
            return Some(*text);
        }
        None
    })?;
    usable(first).then(|| first.to_owned())
}
