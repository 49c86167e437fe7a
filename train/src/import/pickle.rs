//! The objects of a pickle, as far as weights need them.
//!
//! A checkpoint is a pickle in which tensors are calls of `torch._utils._rebuild_tensor_v2` on storages that are persistent ids
//! (`torch/serialization.py`). Around them stand the objects of whoever trained: classes as keys, callbacks, schedules. Nothing
//! is ever called or imported here: what is no container, name, number or tensor becomes an object of which only its state is
//! kept, so that strange company does no harm. The format is that of `pickletools.py`, protocols 0 to 5.
//!
//! All containers lie in one list and refer to each other by number, because pickles may be cyclic and deeply nested.

use std::{collections::BTreeMap, rc::Rc};

/// The most bytes of a pickle: those of large checkpoints have some hundred kilobytes.
const MAX_BYTES: usize = 16 << 20;
/// The deepest nesting of containers that is looked into.
const MAX_DEPTH: usize = 64;
/// The most places that are looked at for tensors: containers that are shared can be found on very many ways.
const MAX_VISITS: usize = 1 << 20;

/// Where the numbers of tensors are: one file of the archive.
#[derive(Debug, PartialEq)]
pub(super) struct Storage {
    /// Class of PyTorch, `FloatStorage`.
    pub kind: String,
    /// Its name in the archive.
    pub key: String,
    /// How many numbers it holds.
    pub len: usize,
}

/// A view of a storage, in elements.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    pub storage: Rc<Storage>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Value {
    /// What no weight needs.
    Other,
    Mark,
    Int(i64),
    Text(Rc<str>),
    /// Module and name of a class or function.
    Global(Rc<(String, String)>),
    /// A dictionary, list, tuple or object, by its place in [`Objects::nodes`].
    Node(usize),
    Storage(Rc<Storage>),
    Tensor(Rc<View>),
}

/// How a container names what it holds.
#[derive(Clone, Debug)]
enum Key {
    Name(Rc<str>),
    Index(i64),
    /// The state of an object, whose parts are its own.
    State,
    /// A class or another object: no weight is named so.
    Unnamed,
}

type Node = Vec<(Key, Value)>;
type Read<T> = Result<T, String>;

/// All containers of a pickle, and the one that it is.
pub(super) struct Objects {
    nodes: Vec<Node>,
    root: Value,
    /// All storages that it names, by their keys.
    pub storages: BTreeMap<String, Rc<Storage>>,
    /// Bytes of the pickle.
    pub len: usize,
}

impl Objects {
    /// Reads the pickle that `bytes` begin with.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine { bytes, ..Machine::default() };
        let root = machine.run()?;
        Ok(Self { nodes: machine.nodes, root, storages: machine.storages, len: machine.at })
    }

    /// The tensors by their paths, `state_dict.encoder.conv_in.weight`; with `key` those below it alone, without it.
    pub fn tensors(&self, key: Option<&str>) -> Read<BTreeMap<String, Rc<View>>> {
        let mut found = BTreeMap::new();
        let start = match key {
            None => Some(&self.root),
            Some(key) => self.entries(&self.root).iter().find_map(|(name, value)| match name {
                Key::Name(name) if &**name == key => Some(value),
                _ => None,
            }),
        };
        let mut visits = 0;
        if let Some(start) = start {
            self.walk(start, &mut Vec::new(), 0, &mut visits, &mut found)?;
        }
        Ok(found)
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<&str> {
        let entries = self.entries(&self.root).iter();
        entries
            .filter_map(|(_, value)| if let Value::Text(text) = value { Some(&**text) } else { None })
            .collect()
    }

    fn entries(&self, value: &Value) -> &[(Key, Value)] {
        match value {
            Value::Node(node) => &self.nodes[*node],
            _ => &[],
        }
    }

    fn walk(
        &self,
        value: &Value,
        path: &mut Vec<String>,
        depth: usize,
        visits: &mut usize,
        found: &mut BTreeMap<String, Rc<View>>,
    ) -> Read<()> {
        *visits += 1;
        if *visits > MAX_VISITS {
            return Err("its objects contain each other in too many ways".to_owned());
        }
        if let Value::Tensor(view) = value {
            found.insert(path.join("."), Rc::clone(view));
        }
        if depth == MAX_DEPTH {
            return Ok(());
        }
        for (key, value) in self.entries(value) {
            let name = match key {
                // What `torch.nn.Module` keeps its parts in.
                Key::Name(name) if ["_parameters", "_buffers", "_modules"].contains(&&**name) => None,
                Key::Name(name) => Some(name.to_string()),
                Key::Index(index) => Some(index.to_string()),
                Key::State => None,
                Key::Unnamed => continue,
            };
            let named = name.is_some();
            path.extend(name);
            self.walk(value, path, depth + 1, visits, found)?;
            if named {
                path.pop();
            }
        }
        Ok(())
    }
}

/// The pickle machine: a stack, a memo, and the containers.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: BTreeMap<u64, Value>,
    nodes: Vec<Node>,
    storages: BTreeMap<String, Rc<Storage>>,
}

impl Machine<'_> {
    fn run(&mut self) -> Read<Value> {
        loop {
            let code = self.take(1)?[0];
            match code {
                b'.' => return self.pop(),
                b'(' => self.stack.push(Value::Mark),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.items()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                0x80 | 0x82 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'c' | b'i' | 0x93 | b'R' | 0x81 | 0x92 | b'o' | b'b' | b'P' | b'Q' | 0x83 | 0x84 | 0x97
                | 0x98 => {
                    self.object(code)?;
                }
                b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => self.memo(code)?,
                b')'
                | b't'
                | 0x85..=0x87
                | b']'
                | b'l'
                | b'}'
                | b'd'
                | 0x8f
                | 0x91
                | b'a'
                | b'e'
                | 0x90
                | b's'
                | b'u' => {
                    self.container(code)?;
                }
                _ => {
                    let value = self.atom(code)?;
                    self.stack.push(value);
                }
            }
        }
    }

    /// Numbers, texts and the like.
    fn atom(&mut self, code: u8) -> Read<Value> {
        Ok(match code {
            b'N' | 0x88 | 0x89 => Value::Other,
            b'F' => self.line().map(|_| Value::Other)?,
            b'G' => self.take(8).map(|_| Value::Other)?,
            b'I' | b'L' => self.line()?.trim_end_matches('L').parse().map_or(Value::Other, Value::Int),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'T' => self.text(4)?,
            b'S' => Value::Text(self.line()?.trim_matches(['\'', '"']).into()),
            b'V' => Value::Text(self.line()?.into()),
            b'B' => self.blob(4)?,
            b'C' => self.blob(1)?,
            0x8e | 0x96 => self.blob(8)?,
            _ => return Err(format!("its pickle has an unknown instruction {code:#04x}")),
        })
    }

    fn memo(&mut self, code: u8) -> Read<()> {
        let place = match code {
            b'g' | b'p' => self.line()?.parse().map_err(|_| "its pickle is damaged".to_owned())?,
            b'h' | b'q' => self.number(1)?,
            b'j' | b'r' => self.number(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'g' | b'h' | b'j') {
            let value = self.memo.get(&place).cloned().ok_or("its pickle refers to what it does not hold")?;
            self.stack.push(value);
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn container(&mut self, code: u8) -> Read<()> {
        match code {
            b')' | b']' | b'}' | 0x8f => self.push_list(vec![]),
            b't' | b'l' | 0x91 => {
                let items = self.items()?;
                self.push_list(items);
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let from = self.stack.len().checked_sub(count).ok_or("its pickle is damaged")?;
                let items = self.stack.split_off(from);
                self.push_list(items);
            }
            b'd' => {
                let items = self.items()?;
                self.push_list(vec![]);
                self.set(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.items()?;
                self.set(&items)?;
            }
            _ => {
                let items = if code == b'a' { vec![self.pop()?] } else { self.items()? };
                if let Value::Node(node) = self.top()? {
                    let node = &mut self.nodes[node];
                    for item in items {
                        let index = node.len() as i64;
                        node.push((Key::Index(index), item));
                    }
                }
            }
        }
        Ok(())
    }

    /// Classes, calls and states.
    fn object(&mut self, code: u8) -> Read<()> {
        let made = match code {
            b'c' => self.global()?,
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (module, name) {
                    (Value::Text(module), Value::Text(name)) => {
                        Value::Global(Rc::new((module.to_string(), name.to_string())))
                    }
                    _ => Value::Other,
                }
            }
            b'i' => {
                let _ = (self.global()?, self.items()?);
                self.node(vec![])
            }
            b'o' => {
                let _ = self.items()?;
                self.node(vec![])
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(&callable, &arguments)
            }
            0x92 => {
                let (_, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(&callable, &arguments)
            }
            b'b' => {
                let state = self.pop()?;
                return self.build(state);
            }
            b'P' => self.line().map(|_| Value::Other)?,
            b'Q' => {
                let id = self.pop()?;
                self.storage(&id).map_or(Value::Other, |storage| {
                    let storage = Rc::new(storage);
                    self.storages.insert(storage.key.clone(), Rc::clone(&storage));
                    Value::Storage(storage)
                })
            }
            0x83 => self.take(2).map(|_| Value::Other)?,
            0x84 => self.take(4).map(|_| Value::Other)?,
            0x97 => Value::Other,
            // A buffer made read-only stays what it is.
            _ => return Ok(()),
        };
        self.stack.push(made);
        Ok(())
    }

    /// What a call gives: a tensor, or an object.
    fn call(&mut self, callable: &Value, arguments: &Value) -> Value {
        let Value::Global(name) = callable else { return self.node(vec![]) };
        let items = self.items_of(arguments);
        match (name.0.as_str(), name.1.as_str()) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                self.view(&items).map_or(Value::Other, |view| Value::Tensor(Rc::new(view)))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                items.into_iter().next().unwrap_or(Value::Other)
            }
            // Function, class, arguments, state: a tensor of a class of its own.
            ("torch._tensor", "_rebuild_from_type_v2") => match &items[..] {
                [function @ Value::Global(inner), _, arguments, _] if inner.1 != "_rebuild_from_type_v2" => {
                    self.call(function, arguments)
                }
                _ => Value::Other,
            },
            // An ordered dictionary of protocol 0 or of Python 2 is made from a list of pairs.
            ("collections", "OrderedDict") => {
                let pairs = items.first().map(|list| self.items_of(list)).unwrap_or_default();
                let entries = pairs.iter().filter_map(|pair| match &self.items_of(pair)[..] {
                    [key, value] => Some((name_of(key), value.clone())),
                    _ => None,
                });
                let entries = entries.collect();
                self.node(entries)
            }
            _ => self.node(vec![]),
        }
    }

    /// Gives the object on top its state: a dictionary, or a pair of one and the values of its slots.
    fn build(&mut self, state: Value) -> Read<()> {
        if let Value::Node(object) = self.top()? {
            self.nodes[object].push((Key::State, state));
        }
        Ok(())
    }

    /// `(storage, offset, shape, strides, ...)`.
    fn view(&self, items: &[Value]) -> Option<View> {
        let [Value::Storage(storage), offset, shape, strides, ..] = items else { return None };
        let sizes = |value: &Value| self.items_of(value).iter().map(size).collect::<Option<Vec<_>>>();
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        (shape.len() == strides.len()).then_some(())?;
        Some(View { storage: Rc::clone(storage), offset: size(offset)?, shape, strides })
    }

    /// `("storage", class, key, location, elements)`.
    fn storage(&self, id: &Value) -> Option<Storage> {
        match &self.items_of(id)[..] {
            [Value::Text(kind), Value::Global(class), Value::Text(key), _, len, ..]
                if &**kind == "storage" =>
            {
                Some(Storage { kind: class.1.clone(), key: key.to_string(), len: size(len)? })
            }
            _ => None,
        }
    }

    fn items_of(&self, value: &Value) -> Vec<Value> {
        match value {
            Value::Node(node) => self.nodes[*node].iter().map(|(_, value)| value.clone()).collect(),
            _ => vec![],
        }
    }

    fn node(&mut self, entries: Node) -> Value {
        self.nodes.push(entries);
        Value::Node(self.nodes.len() - 1)
    }

    fn push_list(&mut self, items: Vec<Value>) {
        let entries = items.into_iter().enumerate().map(|(i, item)| (Key::Index(i as i64), item)).collect();
        let list = self.node(entries);
        self.stack.push(list);
    }

    /// Sets keys and values, one after the other, in the container on top.
    fn set(&mut self, items: &[Value]) -> Read<()> {
        if let Value::Node(node) = self.top()? {
            let entries = items.as_chunks::<2>().0.iter().map(|[key, value]| (name_of(key), value.clone()));
            self.nodes[node].extend(entries);
        }
        Ok(())
    }

    /// What stands above the last mark.
    fn items(&mut self) -> Read<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        let mark = mark.ok_or("its pickle is damaged")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn pop(&mut self) -> Read<Value> {
        self.stack.pop().ok_or_else(|| "its pickle is damaged".to_owned())
    }

    fn top(&self) -> Read<Value> {
        self.stack.last().cloned().ok_or_else(|| "its pickle is damaged".to_owned())
    }

    fn take(&mut self, count: usize) -> Read<&[u8]> {
        let rest = &self.bytes[self.at..];
        if count > rest.len() {
            return Err("its pickle is cut short, or too large".to_owned());
        }
        self.at += count;
        Ok(&rest[..count])
    }

    fn line(&mut self) -> Read<String> {
        let end = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("its pickle is cut short, or too large")?)?;
        let line = String::from_utf8_lossy(line).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn global(&mut self) -> Read<Value> {
        Ok(Value::Global(Rc::new((self.line()?, self.line()?))))
    }

    /// An unsigned number of so many bytes.
    fn number(&mut self, bytes: usize) -> Read<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// Bytes behind their count, itself of so many bytes.
    fn counted(&mut self, bytes: usize) -> Read<&[u8]> {
        let count = usize::try_from(self.number(bytes)?).unwrap_or(usize::MAX);
        self.take(count)
    }

    fn text(&mut self, bytes: usize) -> Read<Value> {
        Ok(Value::Text(String::from_utf8_lossy(self.counted(bytes)?).into()))
    }

    fn blob(&mut self, bytes: usize) -> Read<Value> {
        self.counted(bytes).map(|_| Value::Other)
    }

    /// A signed number of any length.
    fn long(&mut self, bytes: usize) -> Read<Value> {
        let digits = self.counted(bytes)?;
        if digits.len() > 8 {
            return Ok(Value::Other);
        }
        let sign = digits.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if sign { 0xff } else { 0 }; 8];
        all[..digits.len()].copy_from_slice(digits);
        Ok(Value::Int(i64::from_le_bytes(all)))
    }
}

fn name_of(key: &Value) -> Key {
    match key {
        Value::Text(text) => Key::Name(Rc::clone(text)),
        Value::Int(index) => Key::Index(*index),
        _ => Key::Unnamed,
    }
}

fn size(value: &Value) -> Option<usize> {
    match value {
        Value::Int(n) => usize::try_from(*n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"w": tensor, Class: {"w": tensor}, 7: [tensor]}` with a class as key, in protocol 2, by hand.
    fn pickle(outer: &[u8]) -> Vec<u8> {
        let tensor: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06tQK\x02K\x02K\x02\x86K\x02K\x01\x86NNtR";
        [
            b"\x80\x02}(",
            outer,
            b"U\x01w",
            tensor,
            b"cmine\nClass\n}U\x01w",
            tensor,
            b"sK\x07]",
            tensor,
            b"au.",
        ]
        .concat()
    }

    #[test]
    fn tensors_are_found_among_objects_of_any_kind() {
        let objects = Objects::read(&pickle(b"U\x04hookccallbacks\nStop\n)R}U\x05levelG????????sb")).unwrap();
        let tensors = objects.tensors(None).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["7.0", "w"], "a class names no weight");
        let view = &tensors["w"];
        assert_eq!((view.offset, &view.shape[..], &view.strides[..]), (2, &[2, 2][..], &[2, 1][..]));
        assert_eq!((view.storage.kind.as_str(), view.storage.len), ("FloatStorage", 6));
        assert_eq!(objects.tensors(Some("7")).unwrap().len(), 0, "a number is no name");
        assert_eq!(objects.storages.len(), 1);
    }

    #[test]
    fn every_cut_and_every_altered_byte_is_an_error_or_a_pickle() {
        let whole = pickle(b"");
        for cut in 0..whole.len() {
            assert!(Objects::read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            for byte in (0..=255).step_by(3) {
                let mut altered = whole.clone();
                altered[at] = byte;
                let _ = Objects::read(&altered).and_then(|objects| objects.tensors(None));
            }
        }
    }

    /// A list that holds itself, lists that hold the next one twice, and very deep ones.
    #[test]
    fn cycles_and_bombs_end() {
        let cyclic = Objects::read(b"]q\x00h\x00a.").unwrap();
        assert!(cyclic.tensors(None).unwrap().is_empty());
        let doubled = [b"]".to_vec(), b"2\x86".repeat(200), b".".to_vec()].concat();
        assert!(Objects::read(&doubled).unwrap().tensors(None).unwrap_err().contains("too many ways"));
        let deep = [b")".to_vec(), b"\x85".repeat(1 << 20), b".".to_vec()].concat();
        assert!(Objects::read(&deep).unwrap().tensors(None).unwrap().is_empty());
        let looping =
            b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nN)NtR.";
        assert!(Objects::read(looping).unwrap().tensors(None).unwrap().is_empty());
    }
}
