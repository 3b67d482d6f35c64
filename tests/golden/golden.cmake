# Saved states, compiled from source: unit-test_golden loads each, oldest first.
find_program(DTC dtc REQUIRED)
file(GLOB GOLDEN CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.dts)
list(SORT GOLDEN COMPARE NATURAL)
set(GOLDEN_TREES)
foreach(source ${GOLDEN})
  get_filename_component(name ${source} NAME_WLE)
  set(tree ${CMAKE_BINARY_DIR}/tests/golden/${name}.dtb)
  add_custom_command(OUTPUT ${tree}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/tests/golden
    COMMAND ${DTC} -q -I dts -O dtb -o ${tree} ${source} DEPENDS ${source} VERBATIM)
  list(APPEND GOLDEN_TREES ${tree})
endforeach()
add_custom_target(golden ALL DEPENDS ${GOLDEN_TREES})
list(JOIN GOLDEN_TREES ":" GOLDEN_LIST)
set_tests_properties(unit/test_golden PROPERTIES ENVIRONMENT "MOLT_GOLDEN=${GOLDEN_LIST}")
# Its fakes stand before the parts of molt-core that they replace, from which it takes tables too.
target_link_options(unit-test_golden PRIVATE -Wl,--allow-multiple-definition)
