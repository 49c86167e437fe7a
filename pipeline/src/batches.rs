//! Which film is where: films that share a ciphertext, and the list of them, which stays with the client.
//!
//! A model whose ciphertexts hold one film names each after its film and needs no list. Otherwise `encrypt` writes
//! `batch-0001-DIGEST.ct` for the server and beside it `batch-0001-DIGEST.json` for `decrypt`: the films in the order of their places. The
//! digest in the name is that of the list, with the model and the key it is for, so a list that was altered or belongs to another
//! ciphertext does not fit its name; a result is called as the ciphertext that it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use he_runtime::ClientSpec;
use he_runtime::messages::KeyIdentity;
use serde::{Deserialize, Serialize};

use crate::error::{Explain as _, Result};
use crate::files::{ciphertext_file, film_name};
use crate::{refuse, require};

const FORMAT: &str = "veilray-batch";
const VERSION: u32 = 1;
/// A larger list is refused.
const MAX_LIST: u64 = 1 << 20;

/// The list as it lies in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    format: String,
    version: u32,
    /// Digest of the model.
    model: String,
    /// Identity of the key pair.
    key: String,
    /// Number of the batch among those that were encrypted together, from 1.
    number: usize,
    /// The films, in the order of their places.
    films: Vec<String>,
}

impl List {
    fn name(&self) -> Result<String> {
        let digest = blake3::hash(&serde_json::to_vec(self)?).to_hex();
        Ok(format!("batch-{:04}-{}", self.number, &digest[..16]))
    }
}

/// Films that share a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The films, in the order of their places.
    pub films: Vec<String>,
    name: String,
    /// None where a ciphertext holds one film.
    list: Option<List>,
}

impl Batch {
    /// Puts films into batches as full as the model takes them; the last one may be partial.
    ///
    /// # Errors
    /// Two films of the same name.
    pub fn group(spec: &ClientSpec, key: &KeyIdentity, films: &[String]) -> Result<Vec<Self>> {
        let mut names = BTreeSet::new();
        for film in films {
            let file = ciphertext_file(Path::new(""), film);
            require!(names.insert(file), "two films are called {film}: rename one, or encrypt it on its own");
        }
        let batch = |(index, films): (usize, &[String])| -> Result<Self> {
            let films = films.to_vec();
            if spec.films() == 1 {
                let name = film_name(&ciphertext_file(Path::new(""), &films[0]));
                return Ok(Self { films, name, list: None });
            }
            let list = List {
                format: FORMAT.into(),
                version: VERSION,
                model: spec.model.clone(),
                key: hex(key),
                number: index + 1,
                films: films.clone(),
            };
            Ok(Self { films, name: list.name()?, list: Some(list) })
        };
        films.chunks(spec.films()).enumerate().map(batch).collect()
    }

    /// The file of its ciphertext, or of its result, in `folder`.
    pub fn ciphertext(&self, folder: &Path) -> PathBuf {
        ciphertext_file(folder, &self.name)
    }

    /// Writes the list into `folder`, where the ciphertext will lie, readable by its owner alone; nothing where a ciphertext holds one film.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let Some(list) = &self.list else { return Ok(()) };
        let file = list_file(folder, &self.name);
        he_protocol::files::write_private(&file, &serde_json::to_vec_pretty(list)?)
            .explain(|| format!("cannot write {}", file.display()))
    }

    /// The batch that the ciphertext or result `file` holds, by the list of its name in `lists`.
    ///
    /// # Errors
    /// The list is missing, was altered, or is for another model or key.
    pub fn of_file(spec: &ClientSpec, key: &KeyIdentity, lists: Option<&Path>, file: &Path) -> Result<Self> {
        let name = film_name(file);
        if spec.films() == 1 {
            return Ok(Self { films: vec![name.clone()], name, list: None });
        }
        let Some(lists) = lists else {
            refuse!(
                "{} holds up to {} films, and nothing says which: name the folder of the lists that `encrypt` wrote with --lists DIR",
                file.display(),
                spec.films()
            );
        };
        Self::load(spec, key, &list_file(lists, &name))
    }

    /// The batches whose lists lie in `folder`.
    ///
    /// # Errors
    /// A list was altered or is for another model or key, and has to be removed with its ciphertext.
    pub fn in_folder(spec: &ClientSpec, key: &KeyIdentity, folder: &Path) -> Result<Vec<Self>> {
        let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let is_list = |file: &PathBuf| {
            file.extension().is_some_and(|e| e == "json") && film_name(file).starts_with("batch-")
        };
        let mut lists: Vec<PathBuf> = entries.filter(is_list).collect();
        lists.sort();
        let load = |file: &PathBuf| {
            let batch = Self::load(spec, key, file);
            batch.explain(|| format!("{} holds what does not belong here", folder.display()))
        };
        lists.iter().map(load).collect()
    }

    fn load(spec: &ClientSpec, key: &KeyIdentity, file: &Path) -> Result<Self> {
        let shown = file.display();
        let bytes = he_protocol::files::read(file, MAX_LIST)
            .explain(|| format!("cannot read {shown}, the list of a batch that `veilray encrypt` writes"))?;
        let list: List = serde_json::from_slice(&bytes)
            .explain(|| format!("{shown} is no list of a batch: encrypt the films again"))?;
        require!(
            list.format == FORMAT && list.version == VERSION,
            "{shown} says {} version {}, this program reads {FORMAT} version {VERSION}",
            list.format,
            list.version
        );
        let name = film_name(file);
        require!(
            list.name()? == name,
            "{shown} was altered or renamed, its digest is not that of its name: encrypt the films again"
        );
        require!(
            list.model == spec.model,
            "{shown} is for another model ({}, here {}): name the one that its films were encrypted for, or remove the batch",
            short(&list.model),
            short(&spec.model)
        );
        require!(
            list.key == hex(key),
            "{shown} is for another key ({}, here {}): use the one that encrypted its films, or remove the batch",
            short(&list.key),
            short(&hex(key))
        );
        require!(
            (1..=spec.films()).contains(&list.films.len()),
            "{shown} lists {} films, the model takes 1 to {}",
            list.films.len(),
            spec.films()
        );
        Ok(Self { films: list.films.clone(), name, list: Some(list) })
    }
}

/// Where the encrypted results of films are: by film, the result's batch and the film's place in it.
pub struct Places {
    of: BTreeMap<String, (Batch, usize)>,
}

impl Places {
    /// Finds the batches of `films` that have a result in `results`, by the lists in `lists`. Films without a result are left out.
    ///
    /// # Errors
    /// A list was altered or is for another model or key.
    pub fn find(
        spec: &ClientSpec,
        key: &KeyIdentity,
        films: &[String],
        lists: &Path,
        results: &Path,
    ) -> Result<Self> {
        let mut of = BTreeMap::new();
        let batches = if spec.films() == 1 {
            Batch::group(spec, key, films)?
        } else {
            Batch::in_folder(spec, key, lists)?
        };
        for batch in batches.into_iter().filter(|batch| batch.ciphertext(results).exists()) {
            for (place, film) in batch.films.iter().enumerate() {
                of.insert(film.clone(), (batch.clone(), place));
            }
        }
        Ok(Self { of })
    }

    /// The batch of a film and its place there.
    pub fn get(&self, film: &str) -> Option<&(Batch, usize)> {
        self.of.get(film)
    }
}

fn list_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

fn hex(key: &KeyIdentity) -> String {
    blake3::Hash::from_bytes(*key).to_hex().to_string()
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use he_model::zoo::{self, Recipe};
    use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};
    use he_runtime::Circuit;

    use super::*;

    fn spec(seed: u64, films: usize) -> ClientSpec {
        let input = Shape::new(3, 8, 8);
        let architecture = zoo::Architecture::ResNet(8);
        let recipe =
            Recipe { architecture, input, labels: 2, se: false, post_add_activation: false, shrink: 8 };
        let graph = zoo::random(&recipe, seed).unwrap();
        let options = PlanOptions {
            log_ring_degree: Some(12),
            security: SecurityLevel::InsecureForTests,
            films,
            ..PlanOptions::default()
        };
        let model = HeModel {
            plan: plan(&graph, &options).unwrap(),
            labels: vec!["a".into(), "b".into()],
            preprocessing: Preprocessing::unknown(64, input),
            ranges: Ranges::new(&graph),
            graph,
            offsets: Offsets::new(),
            notes: BTreeMap::new(),
        };
        Circuit::new(&model).unwrap().spec
    }

    const KEY: KeyIdentity = [7; 32];

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("film {n}")).collect()
    }

    #[test]
    fn films_fill_batches_in_their_order_and_the_last_one_may_be_partial() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(1, 4);
        let batches = Batch::group(&spec, &KEY, &names(7)).unwrap();
        assert_eq!(batches.iter().map(|b| b.films.len()).collect::<Vec<_>>(), [4, 3]);
        let files: Vec<PathBuf> = batches.iter().map(|b| b.ciphertext(folder.path())).collect();
        assert!(files[0] < files[1], "results sort as films were given");
        assert!(!files[0].display().to_string().contains("film"), "a name on its way to the server");
        for (batch, file) in batches.iter().zip(&files) {
            batch.save(folder.path()).unwrap();
            std::fs::write(file, "a result").unwrap();
            let read = Batch::of_file(&spec, &KEY, Some(folder.path()), file).unwrap();
            assert_eq!(&read, batch);
        }
        assert_eq!(Batch::in_folder(&spec, &KEY, folder.path()).unwrap(), batches);
        let places = Places::find(&spec, &KEY, &names(7), folder.path(), folder.path()).unwrap();
        assert_eq!(places.get("film 6").map(|(batch, place)| (batch, *place)), Some((&batches[1], 1)));
        assert!(places.get("film 8").is_none());
        let error = Batch::group(&spec, &KEY, &["a b".to_owned(), "a_b".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("two films are called a_b"), "{error}");
    }

    #[test]
    fn a_list_that_is_altered_renamed_or_for_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (spec(1, 4), spec(2, 4));
        let batch = &Batch::group(&one, &KEY, &names(3)).unwrap()[0];
        batch.save(folder.path()).unwrap();
        let file = batch.ciphertext(folder.path());
        let refused =
            |spec: &ClientSpec, key: &KeyIdentity, lists: Option<&Path>, file: &Path, said: &str| {
                let error = Batch::of_file(spec, key, lists, file).unwrap_err().in_full();
                assert!(error.contains(said), "{error}");
            };
        let here = Some(folder.path());
        refused(&one, &KEY, None, &file, "--lists");
        refused(&other, &KEY, here, &file, "another model");
        refused(&one, &[8; 32], here, &file, "another key");
        assert!(Batch::in_folder(&other, &KEY, folder.path()).is_err(), "what is left of another model");
        let list = list_file(folder.path(), &film_name(&file));
        let text = std::fs::read_to_string(&list).unwrap();
        let renamed = folder.path().join("batch-0002-0000000000000000.json");
        std::fs::write(&renamed, &text).unwrap();
        refused(&one, &KEY, here, &renamed.with_extension("ct"), "altered or renamed");
        for altered in [
            text.replace("film 1", "film 9"),
            text.replace("\"number\": 1", "\"number\": 2"),
            text.replace("film 1", "x").replace("film 2", "film 1").replace("\"x\"", "\"film 2\""),
        ] {
            assert_ne!(altered, text);
            std::fs::write(&list, altered).unwrap();
            refused(&one, &KEY, here, &file, "altered or renamed");
        }
        std::fs::write(&list, &text[..text.len() / 2]).unwrap();
        refused(&one, &KEY, here, &file, "no list of a batch");
        std::fs::remove_file(&list).unwrap();
        refused(&one, &KEY, here, &file, "cannot read");
    }

    #[test]
    fn a_ciphertext_of_one_film_is_named_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec(1, 1);
        let batches = Batch::group(&spec, &KEY, &names(2)).unwrap();
        assert_eq!(batches[1].ciphertext(folder.path()), folder.path().join("film_2.ct"));
        batches[1].save(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let read = Batch::of_file(&spec, &KEY, None, Path::new("x/film_2.ct")).unwrap();
        assert_eq!(read.films, ["film_2"]);
    }
}
