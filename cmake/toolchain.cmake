# How our own code is compiled: language, warnings, sanitizers, compiler cache, where binaries land.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)

# One flag for all, not CMake's property (-fPIE for programs, -fPIC for libraries): libdjinn_client.so is made of the
# same archives as the server, and a precompiled header serves only who is compiled with the same flag.
add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fPIC>)

# The compiler cache finds in one clone what another clone compiled: paths are taken relative to the clone.
find_program(DJINN_CCACHE ccache)
mark_as_advanced(DJINN_CCACHE)
if(DJINN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(launcher ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${DJINN_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

# lld links a test in a fifth of the time. It comes with the package lld-14, in a folder of its own. What is linked with
# LibTorch keeps the system's linker.
find_program(DJINN_LLD ld.lld PATHS /usr/lib/llvm-14/bin NO_DEFAULT_PATH)
mark_as_advanced(DJINN_LLD)
if(DJINN_LLD AND NOT DJINN_TORCH)
  cmake_path(GET DJINN_LLD PARENT_PATH lld_folder)
  add_link_options(-B${lld_folder} -fuse-ld=lld)
endif()

# Sanitizers go to everything that is built here, also generated code: mixing costs false reports.
if(DJINN_SANITIZE)
  add_compile_options(-fsanitize=${DJINN_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${DJINN_SANITIZE})
  if(DJINN_SANITIZE MATCHES undefined)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# Warnings of our own code, kept off third-party code by linking PRIVATE.
add_library(djinn_options INTERFACE)
target_compile_options(djinn_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(djinn_options INTERFACE -Wthread-safety -Werror=thread-safety)
endif()
