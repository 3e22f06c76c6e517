"""What a code or a refresh token is worth, decided without IO: Issue, Refuse or Replay (RFC 6749, 4.1.3 and 6).

The store locks the row, calls the decision, writes what it says in the same transaction and answers afterwards.
"""
