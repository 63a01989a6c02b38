"""The report of a tenant: its marts on a few pages, as one HTML or PDF file that needs nothing else.

Numbers are read (tables.py), turned into sections of words, tables and panels (compose.py), and rendered twice from
those: html_page.py and pdf_pages.py. The same marts give the same bytes: nothing in here asks a clock.
"""
