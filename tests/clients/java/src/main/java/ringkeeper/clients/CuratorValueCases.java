package ringkeeper.clients;
final class CuratorValueCases { static void register(Main.Cases cases) {} }
