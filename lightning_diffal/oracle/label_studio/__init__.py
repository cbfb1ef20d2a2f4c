"""`LabelStudioOracle`: people label in Label Studio, through files or a running server.

Everything that knows Label Studio's formats lives here. What an oracle is and how answers are checked is in
`oracle.base`.
"""
