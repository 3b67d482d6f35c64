# Other versions of molt, for updates between them and this one: each is this one with another device
# table (devices.c). Never installed.
set(SKEWS newer needed required removed resized renamed optional extra)
foreach(skew ${SKEWS})
  add_executable(molt-skew-${skew} ${CMAKE_SOURCE_DIR}/vmm/main.c ${CMAKE_CURRENT_LIST_DIR}/devices.c)
  target_compile_definitions(molt-skew-${skew} PRIVATE SKEW_${skew})
  target_link_libraries(molt-skew-${skew} PRIVATE molt-core)
endforeach()

# The same with another protocol of the hand-over: one that knows a newer one beside this version's, which it takes
# over from and is taken over by; and one that does not, which is refused both ways.
function(add_protocol_skew name oldest newest)
  add_executable(molt-skew-protocol-${name} ${CMAKE_SOURCE_DIR}/vmm/main.c
    ${CMAKE_SOURCE_DIR}/cpr/handover/incumbent.c ${CMAKE_SOURCE_DIR}/cpr/handover/successor.c)
  target_compile_definitions(molt-skew-protocol-${name} PRIVATE
    PROTOCOL_OLDEST=${oldest} PROTOCOL_NEWEST=${newest})
  target_link_libraries(molt-skew-protocol-${name} PRIVATE molt-core)
endfunction()
add_protocol_skew(newer 1 2)
add_protocol_skew(other 2 2)
