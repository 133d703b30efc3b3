"""The machine around the maker: an agent gateway, its units and memory, snapshots, chats and boards. It reads runs and never trades."""
