//! The sources of settings as tables of the same keys: flags, environment and file.
//!
//! Each value is checked here on its own, so that an error can name the source that it came from.
//! Whether the values fit each other is for `check` to say.

use std::ffi::OsString;
use std::path::Path;

use toml::{Table, Value};

use super::error::ConfigError;
use super::origin::{ENV_PREFIX, SettingOrigin, SettingPlace};
use super::settings::{GivenSettings, SETTING_NAMES};

/// Most suggestions for a key that does not exist.
const SUGGESTIONS_MAX: usize = 3;
/// Characters of an unknown key that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// The settings given as flags.
pub(super) fn flag_table(settings: &GivenSettings) -> Result<Table, ConfigError> {
    Table::try_from(settings).map_err(|error| ConfigError::BadValue {
        place: SettingPlace("flags".to_owned()),
        reason: error.to_string(),
    })
}

/// The settings given as environment variables. An empty variable counts as not set. A variable
/// that is not text is refused only if its name begins with [`ENV_PREFIX`].
pub(super) fn env_table(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Table, ConfigError> {
    let mut table = Table::new();
    for (name, value) in env {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(ENV_PREFIX)) else {
            continue;
        };
        let key = key.to_lowercase();
        // PITHEAD_NODE_CONFIG names the file; the command line reads it.
        if key == "config" || value.is_empty() {
            continue;
        }
        let place = SettingPlace(format!("environment variable {}", name.to_string_lossy()));
        check_key(&key, &place)?;
        let text = value.into_string().map_err(|_| ConfigError::BadValue {
            place: place.clone(),
            reason: "the value is not valid UTF-8".to_owned(),
        })?;
        let value = env_value(&key, text, &place)?;
        table.insert(key, value);
    }
    Ok(table)
}

/// Reads a value by what the setting takes: text stays text, numbers and booleans are written as in
/// TOML, and the items of a list are separated by commas.
fn env_value(key: &str, text: String, place: &SettingPlace) -> Result<Value, ConfigError> {
    let plain = Value::String(text.clone());
    if check_value(key, &plain, place).is_ok() {
        return Ok(plain);
    }
    // Only a list can be empty.
    if check_value(key, &Value::Array(Vec::new()), place).is_ok() {
        let items = text.split(',').map(|item| item.trim().to_owned());
        let list = Value::Array(items.map(Value::String).collect());
        check_value(key, &list, place)?;
        return Ok(list);
    }
    let typed = match (text.parse::<i64>(), text.parse::<bool>()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(flag)) => Value::Boolean(flag),
        _ => plain,
    };
    check_value(key, &typed, place)?;
    Ok(typed)
}

/// The settings given in a TOML file.
pub(super) fn file_table(path: &Path) -> Result<Table, ConfigError> {
    let text = read(path)?;
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::BadFile {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    let place = SettingOrigin::File(path.to_owned()).place("");
    for (key, value) in &table {
        check_key(key, &place)?;
        check_value(key, value, &place)?;
    }
    Ok(table)
}

/// All settings of a table whose values were checked one by one.
pub(super) fn settings_from(table: Table) -> Result<GivenSettings, ConfigError> {
    table
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::BadValue {
            place: SettingPlace("settings".to_owned()),
            reason: error.message().to_owned(),
        })
}

fn check_value(key: &str, value: &Value, place: &SettingPlace) -> Result<(), ConfigError> {
    let single = Table::from_iter([(key.to_owned(), value.clone())]);
    let parsed: Result<GivenSettings, toml::de::Error> = single.try_into();
    parsed.map(drop).map_err(|error| ConfigError::BadValue {
        place: place.clone(),
        reason: format!("{key} is {value}: {}", error.message()),
    })
}

fn check_key(key: &str, place: &SettingPlace) -> Result<(), ConfigError> {
    if SETTING_NAMES.contains(&key) {
        return Ok(());
    }
    let nearest = nearest_keys(key);
    let suggestion = if nearest.is_empty() {
        String::new()
    } else {
        format!(", did you mean {}?", nearest.join(" or "))
    };
    Err(ConfigError::UnknownKey {
        place: place.clone(),
        key: key.chars().take(SHOWN_CHARS_MAX).collect(),
        suggestion,
    })
}

/// The settings that a mistyped or half-remembered key may mean: those that are a few letters away,
/// or else those that share most of its words.
fn nearest_keys(key: &str) -> Vec<&'static str> {
    let key: String = key
        .chars()
        .take(SHOWN_CHARS_MAX)
        .map(|letter| if letter == '-' { '_' } else { letter })
        .flat_map(char::to_lowercase)
        .collect();
    let distance_max = 1 + key.chars().count() / 4;
    let mut close: Vec<_> = SETTING_NAMES
        .iter()
        .map(|known| (strsim::osa_distance(known, &key), *known))
        .filter(|(distance, _)| *distance <= distance_max)
        .collect();
    if close.is_empty() {
        // Those with more letters in common come first.
        close = SETTING_NAMES
            .iter()
            .map(|known| (usize::MAX - common_words(known, &key), *known))
            .filter(|(rank, _)| *rank < usize::MAX)
            .collect();
    }
    // The sort is stable: equally good ones stay in the order of the flags.
    close.sort_by_key(|(distance, _)| *distance);
    let keys = close.into_iter().map(|(_, known)| known);
    keys.take(SUGGESTIONS_MAX).collect()
}

/// The letters in the words that two keys share. The word `rpc` is in many keys and says little, so
/// a word weighs as much as it has letters.
fn common_words(a: &str, b: &str) -> usize {
    a.split('_')
        .filter(|word| b.split('_').any(|other| other == *word))
        .map(str::len)
        .sum()
}

/// A whole file as text.
fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::BadFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
