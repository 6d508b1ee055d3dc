"""The special tokens that every task in the book shares.

| id | name  | meaning                                                    |
|----|-------|------------------------------------------------------------|
| 0  | PAD   | fills short rows; never attended to, left out of the loss  |
| 1  | START | the first token the decoder reads                          |
| 2  | END   | the last token the decoder writes                          |

Tokens that belong to a task are numbered from `FIRST_TASK_TOKEN` on.
"""

PAD = 0
START = 1
END = 2
FIRST_TASK_TOKEN = 3
