use super::*;

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16 + 1).to_le_bytes().to_vec();
    bytes.extend(text.bytes().chain([0]));
    bytes
}

fn variable(name: &str, shape: &[u32], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.push(shape.len() as u8);
    bytes.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
    bytes.push(kind);
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A file of the given variables, and `c` as an alias of `a`.
fn file(variables: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    bytes.extend(string("WhisperSpec"));
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((variables.len() as u32).to_le_bytes());
    bytes.extend(variables.concat());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(string("c").into_iter().chain(string("a")));
    bytes
}

fn small() -> Vec<u8> {
    let halves: Vec<u8> = [0x3c00u16, 0xc000].iter().flat_map(|h| h.to_le_bytes()).collect();
    file(&[
        variable("a", &[2, 1], 4, &halves),
        variable("b", &[], 1, &[0xff]),
        variable("e", &[0], 0, &[]),
        variable("f", &[1], 3, &(-70000i32).to_le_bytes()),
    ])
}

#[test]
fn variables_and_aliases() -> Result<()> {
    let model = ModelFile::parse(&small())?;
    assert_eq!((model.specification.as_str(), model.revision), ("WhisperSpec", 3));
    for name in ["a", "c"] {
        assert_eq!(model.tensors[name].to_dtype(DType::F32)?.to_vec2::<f32>()?, [[1.0], [-2.0]]);
    }
    assert_eq!(model.tensors["b"].to_scalar::<i16>()?, -1);
    assert_eq!(model.tensors["e"].dims(), [0]);
    assert_eq!(model.tensors["f"].to_vec1::<i32>()?, [-70000]);
    Ok(())
}

#[test]
fn cut_at_every_byte_it_says_where() {
    let bytes = small();
    for length in 0..bytes.len() {
        let error = ModelFile::parse(&bytes[..length]).unwrap_err().to_string();
        assert!(error.contains("cut short in"), "at {length}: {error}");
    }
    // The first variable's data are the first bytes after its name, shape, type and size.
    let inside_a = VERSION.to_le_bytes().len() + string("WhisperSpec").len() + 8 + string("a").len() + 14 + 1;
    let error = ModelFile::parse(&bytes[..inside_a]).unwrap_err().to_string();
    assert!(error.contains("variable a"), "{error}");
    let longer = [bytes, vec![0]].concat();
    assert!(ModelFile::parse(&longer).unwrap_err().to_string().contains("1 bytes follow"));
}

#[test]
fn every_changed_byte_is_read_or_refused() {
    let bytes = small();
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            // Whatever comes of it, nothing panics and nothing huge is allocated.
            let _ = ModelFile::parse(&changed);
        }
    }
}

#[test]
fn errors_name_the_variable() {
    let expect = |variables: &[Vec<u8>], message: &str| {
        let error = ModelFile::parse(&file(variables)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    expect(&[variable("a", &[2], 0, &[0; 4])], "variable a: 4 bytes are not those of shape [2]");
    expect(&[variable("a", &[u32::MAX, u32::MAX, u32::MAX], 0, &[0; 4])], "variable a: 4 bytes are not those of shape");
    expect(&[variable("a", &[1], 9, &[0; 4])], "variable a: expected a type of 0 to 5, got 9");
    expect(&[variable("a", &[], 1, &[0]), variable("a", &[], 1, &[0])], "variable a comes twice");
    expect(&[variable("b", &[], 1, &[0])], "alias c: there is no variable a");
    let mut old = small();
    old[0] = 5;
    assert!(ModelFile::parse(&old).unwrap_err().to_string().contains("expected version 6"));
}

#[test]
fn shapes_of_a_model_name_what_is_missing() -> Result<()> {
    let error = ModelFile::parse(&small())?.whisper_config().unwrap_err().to_string();
    assert!(error.contains("encoder/conv1/weight is missing"), "{error}");
    Ok(())
}
