package ringkeeper.clients;
final class CuratorNodeCases { static void register(Main.Cases cases) {} }
