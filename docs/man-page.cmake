# cmake -DMOLT=program -DSCDOC=scdoc -DIN=molt.1.scd.in -DOUT=molt.1 -P man-page.cmake: makes molt.1.gz.
execute_process(COMMAND ${MOLT} --man-options OUTPUT_VARIABLE OPTIONS COMMAND_ERROR_IS_FATAL ANY)
configure_file(${IN} ${OUT}.scd @ONLY)
execute_process(COMMAND ${SCDOC} INPUT_FILE ${OUT}.scd OUTPUT_FILE ${OUT} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND gzip -9nf ${OUT} COMMAND_ERROR_IS_FATAL ANY)
