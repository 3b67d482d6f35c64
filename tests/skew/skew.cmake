# Other versions of molt, for updates between them and this one: each is this one with another device
# table (devices.c). Never installed.
set(SKEWS newer needed required removed resized renamed optional extra)
foreach(skew ${SKEWS})
  add_executable(molt-skew-${skew} ${CMAKE_SOURCE_DIR}/vmm/main.c ${CMAKE_CURRENT_LIST_DIR}/devices.c)
  target_compile_definitions(molt-skew-${skew} PRIVATE SKEW_${skew})
  target_link_libraries(molt-skew-${skew} PRIVATE molt-core)
endforeach()
