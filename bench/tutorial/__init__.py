"""The tutorial's pages: their blocks are run, their listings rendered, notebooks made of them."""
