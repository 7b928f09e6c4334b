# `cmake --install build/release --prefix P`: header, client library, server and a CMake package, for programs outside.
#
# The package is written by hand and not exported from targets: what is inside the client library (archives of ours,
# Debian's packages) is no business of who links it. What it needs besides is LibTorch, the same version.

if(NOT TARGET djinn_client)
  return()
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(DJINN_INSTALL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/djinn)

install(FILES client/djinn.h client/ghost.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/djinn)
install(TARGETS djinn_client LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
# The wheel's folder stays in the RPATH: library and server run where LibTorch was found when they were built.
set_target_properties(djinn_client PROPERTIES INSTALL_RPATH ${DJINN_TORCH_DIR}/lib)
foreach(program djinn_server djinn_ctl djinn_trace)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    set_target_properties(${program} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${DJINN_TORCH_DIR}/lib")
  endif()
endforeach()
if(TARGET djinn_cuda)  # A plugin: where the server looks for it (server/torch/plugin_loader.h).
  install(TARGETS djinn_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

if(TARGET djinn_server)  # To run it as a service: docs/operations.md.
  configure_file(packaging/djinn-server.service.in djinn-server.service @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/djinn-server.service DESTINATION lib/systemd/system)
  install(FILES packaging/djinn-server.toml docs/operations.md DESTINATION ${CMAKE_INSTALL_DATADIR}/djinn)
endif()

configure_package_config_file(cmake/djinnConfig.cmake.in djinnConfig.cmake
  INSTALL_DESTINATION ${DJINN_INSTALL_CMAKE_DIR} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(djinnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/djinnConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/djinnConfigVersion.cmake
  DESTINATION ${DJINN_INSTALL_CMAKE_DIR})

if(BUILD_TESTING AND TARGET djinn_server AND NOT DJINN_SANITIZE)
  add_test(NAME install/out_of_tree_app
    COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/tests/install/run.sh ${CMAKE_BINARY_DIR} ${CMAKE_CXX_COMPILER})
  set_tests_properties(install/out_of_tree_app PROPERTIES TIMEOUT 600 LABELS slow COST 1000)
endif()
