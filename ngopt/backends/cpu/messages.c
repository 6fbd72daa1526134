/* Products of matrices with states of neurons, for messages. Stands behind product.c.
 *
 * Sizes are of each item: numbers of receiving and of sending lines, and the strides between
 * them in its matrices, of which there are `kinds`, one after the other. Pointers are the addresses
 * of the matrices, of the states, and of the products for a line, one matrix after the other.
 */
void run(word items, word kinds, word width, word *sizes, float **where) {
  panels memory = panels_for(most(BLOCK, width));
  real *products = malloc((size_t)(BLOCK * width) * sizeof(real));
  if (!products) abort();
  for (; items > 0; items--, sizes += 4, where += 3) {
    const word receivers = sizes[0], senders = sizes[1], by = sizes[2], along = sizes[3];
    const matrix states = of(where[1], width, 1);
    for (word from = 0; from < receivers; from += BLOCK) {
      const word here = least(receivers - from, BLOCK);
      for (word kind = 0; kind < kinds; kind++) {
        const real *entries = where[0] + kind * receivers * senders + from * by;
        product(memory, here, width, senders, of(entries, by, along), states, 1, 0, products,
                products, 0);
        for (word i = 0; i < here; i++)
          memcpy(where[2] + ((from + i) * kinds + kind) * width, products + i * width,
                 (size_t)width * sizeof(real));
      }
    }
  }
  free(memory.high);
  free(memory.wide);
  free(products);
}
