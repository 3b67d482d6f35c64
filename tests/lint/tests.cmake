# Checks of the source itself: tests/lint/lint says what each one is.
foreach(check format includes arch headers purpose citations shell size columns words cells picture)
  add_test(NAME lint/${check} COMMAND ${CMAKE_CURRENT_LIST_DIR}/lint ${check})
  set_tests_properties(lint/${check} PROPERTIES LABELS lint TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "CC=${CMAKE_C_COMPILER}")
endforeach()
