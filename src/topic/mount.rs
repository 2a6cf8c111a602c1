//! A prefix that the clients of one listener do not see.

use super::filter::SHARE_PREFIX;
use super::name::TopicName;

/// The beginning that all topics of a listener's clients have within the broker. What comes from
/// these clients gets it, what goes to them loses it, and nothing without it reaches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(Box<str>);

impl Mount {
    /// A topic name, usually with `/` at its end.
    pub fn new(prefix: &str) -> Self {
        Mount(prefix.into())
    }

    /// Can it be a prefix. With `$` in front a filter of a client could become a shared one, or one
    /// of the broker's own topics.
    pub fn is_valid(prefix: &str) -> bool {
        !prefix.starts_with('$') && TopicName::parse(prefix).is_ok()
    }

    /// The name within the broker of a topic of a client. No topic stays none.
    pub fn topic(&self, topic: &str) -> String {
        if topic.is_empty() {
            return String::new();
        }
        [&*self.0, topic].concat()
    }

    /// The filter within the broker of a filter of a client; `$share/name/` stays in front.
    pub fn filter(&self, filter: &str) -> String {
        let Some(shared) = filter.strip_prefix(SHARE_PREFIX) else { return self.topic(filter) };
        let path_at = shared.find('/').map_or(shared.len(), |slash| slash + 1);
        let (head, path) = filter.split_at(filter.len() - shared.len() + path_at);
        [head, &self.topic(path)].concat()
    }

    /// The client's name of a topic; `None` if the topic is not among those that it can see.
    pub fn strip<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&*self.0).filter(|rest| !rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_and_go() {
        let mount = Mount::new("plant/");
        assert_eq!(mount.topic("a/b"), "plant/a/b");
        assert_eq!(mount.topic(""), "");
        assert_eq!(mount.strip("plant/a/b"), Some("a/b"));
        for topic in ["plant", "plant/", "a/b", "Plant/a"] {
            assert_eq!(mount.strip(topic), None, "{topic}");
        }
    }

    #[test]
    fn no_prefix_makes_a_filter_another_kind() {
        for prefix in ["$share/g/", "$", "$SYS/", "", "a/+/", "a/#", "a\0"] {
            assert!(!Mount::is_valid(prefix), "{prefix:?}");
        }
        assert!(["plant/", "/", "a/$b/"].into_iter().all(Mount::is_valid));
    }

    #[test]
    fn the_share_name_stays_in_front() {
        let mount = Mount::new("plant/");
        for (of_client, within) in [
            ("+/x/#", "plant/+/x/#"),
            ("$share/g/+/x", "$share/g/plant/+/x"),
            ("$SYS/#", "plant/$SYS/#"),
            // Not valid, and not made valid.
            ("$share/g", "$share/g"),
            ("$share/g/", "$share/g/"),
            ("$share//x", "$share//plant/x"),
            ("", ""),
        ] {
            assert_eq!(mount.filter(of_client), within);
        }
    }
}
