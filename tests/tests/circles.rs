//! No file of a room imports another that imports it, by whatever way round.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ItemFn, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// The name of a module, as its path from the crate's root.
type Module = Vec<String>;

/// The modules that each module of a crate imports. Its own children and its ancestors do not count: a folder is one thing to
/// those outside.
fn imports(crate_folder: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let source = crate_folder.join("src");
    let files: BTreeMap<Module, PathBuf> = rust_files(&source)
        .into_iter()
        .map(|file| (module_of(&source, &file), file))
        .collect();
    let of = |module: &Module, file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(&text).unwrap());
        let named = paths.0.iter().filter_map(|path| absolute(module, path));
        let imported = named.filter_map(|mut path| {
            while !files.contains_key(&path) {
                path.pop()?;
            }
            Some(path)
        });
        let others = imported.filter(|other| !other.starts_with(module) && !other.is_empty());
        others.collect::<BTreeSet<Module>>()
    };
    files
        .iter()
        .map(|(module, file)| (module.clone(), of(module, file)))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(rust_files(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found
}

fn module_of(source: &Path, file: &Path) -> Module {
    let mut names: Module = file
        .strip_prefix(source)
        .unwrap()
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    names
}

/// A path from the crate's root; none for one that leaves the crate.
fn absolute(module: &Module, path: &[String]) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut from = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    from.extend_from_slice(rest);
    Some(from)
}

/// Every path that a file names outside its tests.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|s| s.ident.to_string());
        self.0.push(names.collect());
        visit::visit_path(self, path);
    }
}

impl Paths {
    fn tree(&mut self, mut before: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before.clone(), tree);
                }
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.0.push(before);
            }
            UseTree::Rename(rename) => {
                before.push(rename.ident.to_string());
                self.0.push(before);
            }
            UseTree::Glob(_) => self.0.push(before),
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The modules of one circle, in order; none if there is no circle.
fn circle(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    let mut done = BTreeSet::new();
    for module in imports.keys() {
        let found = walk(imports, &mut vec![module.clone()], &mut done);
        if found.is_some() {
            return found;
        }
    }
    None
}

fn walk(
    imports: &BTreeMap<Module, BTreeSet<Module>>,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    let module = way.last().unwrap().clone();
    for next in &imports[&module] {
        if let Some(at) = way.iter().position(|passed| passed == next) {
            return Some(way[at..].to_vec());
        }
        if !done.contains(next) {
            way.push(next.clone());
            if let Some(found) = walk(imports, way, done) {
                return Some(found);
            }
            way.pop();
        }
    }
    done.insert(module);
    None
}

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut edges = 0;
    for entry in fs::read_dir(&root).unwrap() {
        let room = entry.unwrap().path();
        if !room.join("Cargo.toml").exists() || !room.join("src").exists() {
            continue;
        }
        let imports = imports(&room);
        edges += imports.values().map(BTreeSet::len).sum::<usize>();
        let circle = circle(&imports).map(|circle| {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            names.join(" -> ")
        });
        assert_eq!(circle, None, "in {}", room.display());
    }
    assert!(edges > 200, "only {edges} imports were found");
}
