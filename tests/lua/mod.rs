//! Lua as Argo CD runs it (`util/lua` there): an object as the global `obj`, the base and table libraries, and of `os` the
//! two functions that `require("os")` gives. What a script returns goes through JSON, where an empty table is a list.

#![allow(dead_code, reason = "each test file uses a part")]

use mlua::{Lua, LuaOptions, StdLib, Table, Value as Any};
use serde_json::{Map, Value, json};

/// Runs a script on an object; returns what it returns.
pub fn run(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).expect("Lua");
    let globals = lua.globals();
    for name in ["string", "os", "io", "math", "debug"] {
        assert!(globals.get::<Any>(name).expect("a global").is_nil(), "Argo CD has no {name}");
    }
    let date = |_: &Lua, format: String| {
        assert!(format.starts_with('!'), "the time of a zone is no token");
        let now = k8s_openapi::jiff::Timestamp::now();
        Ok(now.strftime(format.trim_start_matches('!')).to_string())
    };
    let date = lua.create_function(date).expect("a function");
    let require = move |lua: &Lua, name: String| {
        assert_eq!(name, "os", "Argo CD gives no other module");
        let os = lua.create_table()?;
        os.set("date", date.clone())?;
        Ok(os)
    };
    globals.set("require", lua.create_function(require).expect("a function")).expect("a global");
    globals.set("obj", to_lua(&lua, object)).expect("a global");
    let returned: Any = lua.load(script).eval().unwrap_or_else(|error| panic!("{error}\n{script}"));
    to_json(&returned)
}

/// What the health check says: status and message.
pub fn health(object: &Value) -> (String, String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/integrations/argocd/lua/health.lua");
    let said = run(&std::fs::read_to_string(path).expect("health.lua"), object);
    let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("no {key}: {said}")).to_owned();
    let status = text("status");
    assert!(["Healthy", "Progressing", "Degraded", "Suspended"].contains(&status.as_str()), "{status}");
    (status, text("message"))
}

/// The object with its conditions in every order.
pub fn orders(object: &Value) -> Vec<Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let put = |list: Vec<Value>| {
        let mut object = object.clone();
        if !list.is_empty() {
            object["status"]["conditions"] = Value::Array(list);
        }
        object
    };
    permutations(&conditions).into_iter().map(put).collect()
}

fn permutations(list: &[Value]) -> Vec<Vec<Value>> {
    if list.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in list.iter().enumerate() {
        let rest: Vec<Value> = [&list[..place], &list[place + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![first.clone()], tail].concat()));
    }
    all
}

/// The merge patch that Argo CD makes of what an action returned.
pub fn patch_of(old: &Value, returned: &Value) -> Value {
    difference(old, &mended(old, returned))
}

/// Lists that are empty and were maps become those again, as they were.
fn mended(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(before), Value::Array(list)) if list.is_empty() => Value::Object(before.clone()),
        (Value::Object(before), Value::Object(after)) => {
            let mend = |(key, value): (&String, &Value)| {
                (key.clone(), before.get(key).map_or_else(|| value.clone(), |old| mended(old, value)))
            };
            Value::Object(after.iter().map(mend).collect())
        }
        (Value::Array(before), Value::Array(after)) => {
            let mend = |(place, value): (usize, &Value)| {
                before.get(place).map_or_else(|| value.clone(), |old| mended(old, value))
            };
            Value::Array(after.iter().enumerate().map(mend).collect())
        }
        _ => new.clone(),
    }
}

fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return new.clone() };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(old) if old == value => {}
            Some(old) => drop(patch.insert(key.clone(), difference(old, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    patch.extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    Value::Object(patch)
}

fn to_lua(lua: &Lua, value: &Value) -> Any {
    match value {
        Value::Null => Any::Nil,
        Value::Bool(value) => Any::Boolean(*value),
        Value::Number(number) => Any::Number(number.as_f64().expect("a number")),
        Value::String(text) => Any::String(lua.create_string(text).expect("text")),
        Value::Array(list) => {
            let items = list.iter().map(|item| to_lua(lua, item));
            Any::Table(lua.create_sequence_from(items).expect("a table"))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.as_str(), to_lua(lua, value)));
            Any::Table(lua.create_table_from(entries).expect("a table"))
        }
    }
}

fn to_json(value: &Any) -> Value {
    match value {
        Any::Nil => Value::Null,
        Any::Boolean(value) => json!(value),
        Any::Integer(number) => json!(number),
        #[allow(clippy::cast_possible_truncation, reason = "what has no fraction")]
        Any::Number(number) if number.fract() == 0.0 => json!(*number as i64),
        Any::Number(number) => json!(number),
        Any::String(text) => json!(text.to_str().expect("UTF-8").to_string()),
        Any::Table(table) => of_table(table),
        other => panic!("{} is no JSON", other.type_name()),
    }
}

fn of_table(table: &Table) -> Value {
    let pairs: Vec<(Any, Any)> = table.pairs::<Any, Any>().map(|pair| pair.expect("a pair")).collect();
    if pairs.len() == table.raw_len() {
        let items = (1..=pairs.len()).map(|place| to_json(&table.raw_get::<Any>(place).expect("an item")));
        return Value::Array(items.collect());
    }
    let entries = pairs.iter().map(|(key, value)| {
        let Any::String(key) = key else { panic!("a key that is no text") };
        (key.to_str().expect("UTF-8").to_string(), to_json(value))
    });
    Value::Object(entries.collect())
}
