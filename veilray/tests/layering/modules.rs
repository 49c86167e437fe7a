//! The arrows between the files of one crate, read from its sources, and the circles that they
//! form.
//!
//! An arrow runs from a file to the file that its import names, and where that one only hands the
//! name on, to the file that defines it. Imports are `use` trees, and paths that begin with
//! `crate`, `super`, `self`, a child module or an imported name, in macros too. Handing on (`pub
//! use`) and declaring (`mod`) are no arrows of their own, and what stands behind `#[cfg(test)]` is
//! not looked at. A file may name what lies in the files that it is a part of: `foo/bar.rs` that
//! reads `super::Foo` is a piece of `foo.rs`, not above it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The segments of a path below the crate's root.
type Segments = Vec<String>;

/// What one file says.
#[derive(Default)]
struct Module {
    file: String,
    /// What each name of a `use` stands for.
    imports: BTreeMap<String, Segments>,
    /// What is named, handing on aside.
    named: BTreeSet<Segments>,
    /// Paths whose first segment may be an imported name.
    relative: BTreeSet<Segments>,
}

/// The modules of a crate by their paths; the root's is empty.
pub struct Modules(BTreeMap<Segments, Module>);

/// The names that one file takes from another.
pub type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

impl Modules {
    /// The files below the folder `source`, which has a `lib.rs` or a `main.rs`; a `main.rs` beside
    /// a `lib.rs` is a crate of its own, of one file.
    pub fn of_folder(source: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(source, source, &mut files);
        if files.contains_key("lib.rs") {
            files.remove("main.rs");
        }
        Self::new(&files)
    }

    /// Those of files, by path below the source folder.
    pub fn new(files: &BTreeMap<String, String>) -> Self {
        let path = |file: &str| -> Segments {
            let stem = file.trim_end_matches(".rs");
            if ["lib", "main"].contains(&stem) { vec![] } else { stem.split('/').map(Into::into).collect() }
        };
        let known: BTreeSet<Segments> = files.keys().map(|file| path(file)).collect();
        let modules = files.iter().map(|(file, text)| {
            let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{file} is not Rust: {e}"));
            let base = path(file);
            let mut reader = Reader {
                base: &base,
                known: &known,
                module: Module { file: file.clone(), ..Module::default() },
            };
            reader.read(tokens, &base);
            let Reader { module, .. } = reader;
            (base, module)
        });
        Self(modules.collect())
    }

    /// The modules that a path leads through, each with the name taken from it: the one that it
    /// names, and behind a re-export the one that defines what is named.
    fn sources(&self, path: &[String]) -> Vec<(Segments, String)> {
        let (mut path, mut sources) = (path.to_vec(), vec![]);
        // A chain of more re-exports than there are modules would be a loop, and no Rust.
        for _ in 0..=self.0.len() {
            let depth = (0..=path.len()).rev().find(|n| self.0.contains_key(&path[..*n])).unwrap_or(0);
            let (module, rest) = path.split_at(depth);
            let name = rest.first().or(module.last());
            sources.push((module.to_vec(), name.cloned().unwrap_or_default()));
            match rest.first().and_then(|name| self.0[module].imports.get(name)) {
                Some(target) => path = [target, &rest[1..]].concat(),
                None => return sources,
            }
        }
        panic!("the re-export of {} leads nowhere", path.join("::"))
    }

    /// The arrows, without those to the files that a file is a part of.
    pub fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, module) in &self.0 {
            let expanded = module.relative.iter().filter_map(|relative| {
                let import = module.imports.get(&relative[0])?;
                Some([import, &relative[1..]].concat())
            });
            for named in module.named.iter().cloned().chain(expanded) {
                for (target, name) in self.sources(&named) {
                    if !path.starts_with(&target) {
                        let ends = (module.file.clone(), self.0[&target].file.clone());
                        arrows.entry(ends).or_default().insert(name);
                    }
                }
            }
        }
        arrows
    }

    /// The files that name each other in a loop, loop by loop.
    pub fn circles(&self) -> Vec<BTreeSet<String>> {
        let arrows = self.arrows();
        let files: BTreeSet<&String> = self.0.values().map(|module| &module.file).collect();
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            files.iter().map(|file| (*file, reachable(file, &arrows))).collect();
        let mut circles: Vec<BTreeSet<String>> = vec![];
        for file in files.into_iter().filter(|file| reached[file].contains(file)) {
            let circle = reached[file].iter().filter(|other| reached[**other].contains(file));
            let circle: BTreeSet<String> = circle.map(|other| (*other).clone()).collect();
            if !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }

    /// The circles in words: the arrows of each, with the names.
    pub fn describe_circles(&self) -> String {
        let arrows = self.arrows();
        let mut text = String::new();
        for (number, circle) in self.circles().iter().enumerate() {
            text += &format!("circle {} of {} files\n", number + 1, circle.len());
            let inside = arrows.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
            for ((from, to), names) in inside {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                text += &format!("  {from} -> {to}: {}\n", names.join(", "));
            }
        }
        text
    }
}

/// What can be reached by one arrow or more.
fn reachable<'a>(from: &String, arrows: &'a Arrows) -> BTreeSet<&'a String> {
    let next =
        |file: &String| arrows.keys().filter(move |(from, _)| from == file).map(|(_, to)| to).collect();
    let mut left: Vec<&String> = next(from);
    let mut seen = BTreeSet::new();
    while let Some(file) = left.pop() {
        if seen.insert(file) {
            left.extend(next(file));
        }
    }
    seen
}

/// The `.rs` files below `folder`, by their path from `source`.
fn collect(source: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() {
            collect(source, &path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(source).expect("it was found below").to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(&path).expect("a source file is text"));
        }
    }
}

/// Reads the tokens of one file.
struct Reader<'a> {
    /// The module that the file is.
    base: &'a [String],
    known: &'a BTreeSet<Segments>,
    module: Module,
}

impl Reader<'_> {
    /// Reads what stands in the module `base`, which may be one inside the file.
    fn read(&mut self, tokens: TokenStream, base: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.item(&tokens, at, base);
        }
    }

    /// Reads what begins at a token; the first token after it.
    fn item(&mut self, tokens: &[TokenTree], at: usize, base: &[String]) -> usize {
        let word = ident(&tokens[at]);
        match (&tokens[at], word.as_deref()) {
            (TokenTree::Punct(p), _) if p.as_char() == '#' => self.attribute(tokens, at),
            (TokenTree::Group(group), _) => {
                self.read(group.stream(), base);
                at + 1
            }
            (_, Some("mod")) => {
                let name = tokens.get(at + 1).and_then(ident);
                if let (Some(name), Some(TokenTree::Group(body))) = (name, tokens.get(at + 2)) {
                    self.read(body.stream(), &[base, &[name]].concat());
                    return at + 3;
                }
                at + 1
            }
            (_, Some("use")) => {
                let is_end = |t: &TokenTree| matches!(t, TokenTree::Punct(p) if p.as_char() == ';');
                let end = tokens[at..].iter().position(is_end).map_or(tokens.len(), |n| at + n);
                // What is handed on is no arrow; `pub(crate)` ends in a group.
                let before = at.checked_sub(1).map(|before| &tokens[before]);
                let hands_on = before.is_some_and(|t| {
                    ident(t).as_deref() == Some("pub")
                        || matches!(t, TokenTree::Group(_)) && is_public(tokens, at)
                });
                self.tree(&tokens[at + 1..end], &[], (base, hands_on));
                end
            }
            (_, Some(first)) => {
                let (path, end) = path(tokens, at, first);
                if path.len() > 1 {
                    match self.absolute(&path, base) {
                        Some(path) => self.module.named.insert(path),
                        None => self.module.relative.insert(path),
                    };
                }
                end
            }
            _ => at + 1,
        }
    }

    /// Behind an attribute; and behind what it stands on, where that is for tests only.
    fn attribute(&self, tokens: &[TokenTree], at: usize) -> usize {
        let Some(TokenTree::Group(attribute)) = tokens.get(at + 1) else { return at + 1 };
        let text = attribute.stream().to_string().replace(' ', "");
        if !text.starts_with("cfg(test)") && !text.starts_with("cfg(all(test") {
            return at + 2;
        }
        let ends = |t: &TokenTree| match t {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(p) => p.as_char() == ';',
            _ => false,
        };
        tokens[at + 2..].iter().position(ends).map_or(tokens.len(), |n| at + 3 + n)
    }

    /// Reads a tree of imports below `prefix`.
    fn tree(&mut self, tokens: &[TokenTree], prefix: &[String], from: (&[String], bool)) {
        let is_comma = |t: &TokenTree| matches!(t, TokenTree::Punct(p) if p.as_char() == ',');
        for branch in tokens.split(is_comma) {
            let mut path = prefix.to_vec();
            let mut alias = None;
            let mut words = branch.iter();
            while let Some(token) = words.next() {
                match (token, ident(token)) {
                    (TokenTree::Group(group), _) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.tree(&inner, &path, from);
                        path.clear();
                    }
                    (_, Some(word)) if word == "as" => alias = words.next().and_then(ident),
                    (_, Some(word)) if word == "self" && !path.is_empty() => {}
                    (_, Some(word)) => path.push(word),
                    _ => {}
                }
            }
            self.import(path, alias, from);
        }
    }

    fn import(&mut self, path: Segments, alias: Option<String>, (base, hands_on): (&[String], bool)) {
        let Some(name) = alias.or_else(|| path.last().cloned()) else { return };
        let Some(path) = self.absolute(&path, base) else { return };
        if !hands_on {
            self.module.named.insert(path.clone());
        }
        // What a module within the file imports is no name of the file itself.
        if base == self.base {
            self.module.imports.insert(name, path);
        }
    }

    /// The path from the crate's root; `None` if it leads elsewhere, or begins with an imported
    /// name.
    fn absolute(&self, path: &[String], base: &[String]) -> Option<Segments> {
        let (mut from, mut rest) = (base.to_vec(), path);
        match path.first()?.as_str() {
            "crate" => from.clear(),
            "self" | "super" => {}
            child => {
                let child = [base, &[child.to_owned()]].concat();
                return self.known.contains(&child).then(|| [base, path].concat());
            }
        }
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => _ = from.pop(),
                _ => break,
            }
            rest = others;
        }
        Some([&from, rest].concat())
    }
}

/// Whether the token before the group before `at` is `pub`.
fn is_public(tokens: &[TokenTree], at: usize) -> bool {
    at.checked_sub(2).and_then(|before| ident(&tokens[before])).as_deref() == Some("pub")
}

fn ident(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

/// The path that begins with `first` at a token, and where it ends.
fn path(tokens: &[TokenTree], at: usize, first: &str) -> (Segments, usize) {
    let is_colon = |t: Option<&TokenTree>| matches!(t, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    let (mut path, mut end) = (vec![first.to_owned()], at + 1);
    while is_colon(tokens.get(end)) && is_colon(tokens.get(end + 1)) {
        let Some(next) = tokens.get(end + 2).and_then(ident) else { break };
        path.push(next);
        end += 3;
    }
    (path, end)
}
