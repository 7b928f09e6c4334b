# djinn_library(name [SHARED | MODULE] SOURCES … DEPS …): one folder, one library, one line of dependencies.
# djinn_program(name SOURCES … DEPS …): one binary in bin/.
#
# A SHARED library, and a MODULE (a plugin), keeps its DEPS to itself and exports only what it marks (DJINN_API).
# Headers are listed among SOURCES; each is compiled alone by all_verify_interface_header_sets. Who names djinn_torch in
# its DEPS is compiled with the precompiled LibTorch header (cmake/torch.cmake).

function(djinn_use_torch_header name)
  if("djinn_torch" IN_LIST ARGN)
    target_precompile_headers(${name} REUSE_FROM djinn_torch_header)
  endif()
endfunction()

function(djinn_library name)
  cmake_parse_arguments(arg "SHARED;MODULE" "" "SOURCES;DEPS" ${ARGN})
  set(headers ${arg_SOURCES})
  list(FILTER headers INCLUDE REGEX "[.]h$")
  list(FILTER arg_SOURCES EXCLUDE REGEX "[.]h$")
  if(arg_SOURCES)
    set(kind STATIC)
    if(arg_SHARED)
      set(kind SHARED)
    elseif(arg_MODULE)
      set(kind MODULE)
    endif()
    add_library(${name} ${kind} ${arg_SOURCES})
    if(arg_SHARED OR arg_MODULE)
      target_link_libraries(${name} PRIVATE ${arg_DEPS} djinn_options)
      set_target_properties(${name} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
      target_link_options(${name} PRIVATE -Wl,--exclude-libs,ALL)
      if(NOT DJINN_SANITIZE)  # Their runtime is linked into the program.
        target_link_options(${name} PRIVATE -Wl,-z,defs)
      endif()
    else()
      target_link_libraries(${name} PUBLIC ${arg_DEPS} PRIVATE djinn_options)
    endif()
    djinn_use_torch_header(${name} ${arg_DEPS})
    set(scope PUBLIC)
    if(arg_MODULE)
      set(scope PRIVATE)  # Nobody links it.
    endif()
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_DEPS})
    set(scope INTERFACE)
  endif()
  target_sources(${name} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
endfunction()

function(djinn_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} djinn_options)
  djinn_use_torch_header(${name} ${arg_DEPS})
endfunction()
