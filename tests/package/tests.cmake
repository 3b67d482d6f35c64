# The Debian package and what is installed: tests/package/package says what each check is. They share what the first builds.
foreach(check build lintian contents plain unit)
  add_test(NAME package/${check} COMMAND ${CMAKE_CURRENT_LIST_DIR}/package ${check} ${CMAKE_BINARY_DIR}/tests/package)
  set_tests_properties(package/${check} PROPERTIES LABELS package TIMEOUT 1200 SKIP_RETURN_CODE 77
    FIXTURES_REQUIRED package)
endforeach()
set_tests_properties(package/build PROPERTIES FIXTURES_REQUIRED "" FIXTURES_SETUP package)

foreach(test "bare inside hello" "systemd systemd panic")
  separate_arguments(test)
  list(GET test 0 name)
  list(GET test 1 how)
  list(GET test 2 guest)
  add_test(NAME package/${name} COMMAND sh -c "exec \"$1\" \"$2\" \"$3\"/old/*.deb \"$3\"/new/*.deb \"$4\"" sh
    ${CMAKE_CURRENT_LIST_DIR}/bare ${how} ${CMAKE_BINARY_DIR}/tests/package ${CMAKE_BINARY_DIR}/guests/${guest})
  set_tests_properties(package/${name} PROPERTIES LABELS package TIMEOUT 1200 SKIP_RETURN_CODE 77
    FIXTURES_REQUIRED package)
endforeach()

foreach(shell bash zsh fish)
  add_test(NAME package/${shell} COMMAND ${CMAKE_CURRENT_LIST_DIR}/completions ${shell} $<TARGET_FILE:molt>)
  set_tests_properties(package/${shell} PROPERTIES LABELS package TIMEOUT 1200 SKIP_RETURN_CODE 77)
endforeach()
