# The man pages. The list of options in molt(1) comes from the program itself, so that it says what this build
# understands. Compressed, as distributions install them.
find_program(SCDOC scdoc)
if(NOT SCDOC)
  message(WARNING "scdoc is missing: no man pages (apt-get install scdoc)")
  return()
endif()
set(MAN_PAGES)
function(add_man_page source page)
  set(out ${CMAKE_BINARY_DIR}/${page}.gz)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DMOLT=$<TARGET_FILE:molt> -DSCDOC=${SCDOC} -DOUT=${CMAKE_BINARY_DIR}/${page}
      -DIN=${CMAKE_CURRENT_LIST_DIR}/${source} -P ${CMAKE_CURRENT_LIST_DIR}/man-page.cmake
    DEPENDS molt ${CMAKE_CURRENT_LIST_DIR}/${source} ${CMAKE_CURRENT_LIST_DIR}/man-page.cmake
    VERBATIM)
  string(REGEX REPLACE ".*\\." "" section ${page})
  install(FILES ${out} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
  set(MAN_PAGES ${MAN_PAGES} ${out} PARENT_SCOPE)
endfunction()
add_man_page(molt.1.scd.in molt.1)
add_man_page(molt-vfio-bind.8.scd molt-vfio-bind.8)
add_man_page(molt-net-tap.8.scd molt-net-tap.8)
add_custom_target(man ALL DEPENDS ${MAN_PAGES})
