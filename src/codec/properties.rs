//! Property blocks (MQTT 5.0 §2.2.2).

/// A property block without its length prefix, checked: known identifiers, legal in its packet, no
/// forbidden repeat, legal values. Built by decoding or by [`PropertyList`](super::PropertyList).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    pub(super) raw: &'a [u8],
}
