# The man page and the completion: texts from docs/, the list of options from the program itself, so
# that both say what this build understands.
include(GNUInstallDirs)

add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/molt.bash
  COMMAND molt --completion > ${CMAKE_BINARY_DIR}/molt.bash
  DEPENDS molt VERBATIM)
add_custom_target(completion ALL DEPENDS ${CMAKE_BINARY_DIR}/molt.bash)
install(FILES ${CMAKE_BINARY_DIR}/molt.bash
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME molt)

find_program(SCDOC scdoc)
if(NOT SCDOC)
  message(WARNING "scdoc is missing: no man page (apt-get install scdoc)")
  return()
endif()
set(MAN_PAGE ${CMAKE_BINARY_DIR}/molt.1)
add_custom_command(OUTPUT ${MAN_PAGE}
  COMMAND ${CMAKE_COMMAND} -DMOLT=$<TARGET_FILE:molt> -DSCDOC=${SCDOC} -DOUT=${MAN_PAGE}
    -DIN=${CMAKE_CURRENT_LIST_DIR}/molt.1.scd.in -P ${CMAKE_CURRENT_LIST_DIR}/man-page.cmake
  DEPENDS molt ${CMAKE_CURRENT_LIST_DIR}/molt.1.scd.in ${CMAKE_CURRENT_LIST_DIR}/man-page.cmake
  VERBATIM)
add_custom_target(man ALL DEPENDS ${MAN_PAGE})
install(FILES ${MAN_PAGE} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
