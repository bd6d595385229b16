//! Files for C build systems, for the directory they stand in.

/// `NAME.pc`.
pub fn pkg_config(name: &str) -> String {
    format!(
        "prefix=${{pcfiledir}}\n\nName: {name}\nDescription: {name}, compiled by mixc\nVersion: {}\n\
         Cflags: -I${{prefix}}\nLibs: -L${{prefix}} -l{name}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// `NAMEConfig.cmake`.
pub fn cmake(name: &str) -> String {
    format!(
        "# {name}, compiled by mixc: find_package({name} CONFIG), then target_link_libraries(app {name}::{name})\n\
         if(NOT TARGET {name}::{name})\n  add_library({name}::{name} STATIC IMPORTED)\n  \
         set_target_properties({name}::{name} PROPERTIES\n    \
         IMPORTED_LOCATION \"${{CMAKE_CURRENT_LIST_DIR}}/lib{name}.a\"\n    \
         INTERFACE_INCLUDE_DIRECTORIES \"${{CMAKE_CURRENT_LIST_DIR}}\")\nendif()\n"
    )
}
